"""What differs between the object that stands and the program's. Pure.

As in the official provider, the live object is cut to the shape of the inputs that made it and
that is compared with the new inputs: a field that the program manages and somebody changed shows
as drift, a field that only others set does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from lab.provider.quantities import quantity
from lab.provider.wire import UNKNOWN

How = Literal["add", "delete", "update"]


@dataclass(frozen=True)
class Change:
    """One difference; `value` is the new one."""

    path: str
    how: How
    value: Any

    def replaces(self, rules: tuple[str, ...]) -> bool:
        """Is the changed path at or below one of the rules, or does its value hold one?"""
        flat = flattened(self.path)
        for rule in rules:
            if flat == rule or flat.startswith((f"{rule}.", f"{rule}[")):
                return True
            if rule.startswith(f"{flat}.") and _holds(self.value, rule[len(flat) + 1 :]):
                return True
        return False


def flattened(path: str) -> str:
    """`spec.containers[0].image` -> `spec.containers.image`; keys with dots stay in brackets."""
    return re.sub(r"\[\d+\]", "", path)


def _holds(value: Any, path: str) -> bool:
    """Has the value this path in it? Of a list one element is enough."""
    if isinstance(value, list):
        return any(_holds(each, path) for each in value)
    key, _, rest = path.partition(".")
    if not isinstance(value, dict) or key not in value:
        return False
    return _holds(value[key], rest) if rest else True


def pruned(live: Any, shape: Any) -> Any:
    """The live value of each field that `shape` has, and of no other; lists go by position."""
    if isinstance(live, dict) and isinstance(shape, dict):
        return {key: pruned(value, shape[key]) for key, value in live.items() if key in shape}
    if isinstance(live, list) and isinstance(shape, list):
        if live and shape and type(live[0]) is not type(shape[0]):
            return live
        return [pruned(a, b) for a, b in zip(live, shape, strict=False)]
    return live


def differences(old: Any, new: Any, path: str = "") -> list[Change]:
    """Each leaf or subtree of `new` that is not as in `old`; a null is as good as absent."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(set(old) | set(new)):
            found += _pair(old.get(key), new.get(key), _below(path, key))
        return found
    if isinstance(old, list) and isinstance(new, list):
        found = []
        for n in range(max(len(old), len(new))):
            a = old[n] if n < len(old) else None
            b = new[n] if n < len(new) else None
            found += _pair(a, b, f"{path}[{n}]")
        return found
    return [] if _same(old, new, path) else [Change(path, "update", new)]


def _pair(old: Any, new: Any, path: str) -> list[Change]:
    if old is None and new is None:
        return []
    if old is None:
        return [Change(path, "add", new)]
    if new is None:
        return [Change(path, "delete", None)]
    return differences(old, new, path)


def _below(path: str, key: str) -> str:
    if re.search(r'[."\[\]]', key):
        escaped = key.replace('"', '\\"')
        return f'{path}["{escaped}"]'
    return f"{path}.{key}" if path else key


def ignored(path: str, ignore: list[str]) -> bool:
    """Is the path at or below one of the program's `ignore_changes`? `*` stands for any key."""
    steps = _steps(path)
    return any(
        len(rule) <= len(steps)
        and all(a in ("*", b) for a, b in zip(rule, steps, strict=False))
        for rule in map(_steps, ignore)
    )


_STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]|([^.\[\]]+)')


def _steps(path: str) -> list[str]:
    return ["".join(groups).replace('\\"', '"') for groups in _STEP.findall(path)]


def _same(old: Any, new: Any, path: str) -> bool:
    if old is UNKNOWN or new is UNKNOWN:
        return False
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if old == new:
        return True
    if not _QUANTITY.search(flattened(path)):
        return False
    a, b = quantity(old), quantity(new)
    return a is not None and a == b


#: Where quantities may be, though old inputs in the state need not be canonical.
_QUANTITY = re.compile(
    r'^spec\.(?:.*\.)?(?:limits|requests|capacity|hard|overhead|sizeLimit|divisor)(?:$|\.|\[")'
)
