"""Between the engine's property values and plain Python. Owns secrets and unknowns, no meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi.provider.experimental.property_value import Computed, PropertyValue

INPUTS = "__inputs"  # where the state keeps the inputs: `diff` is given the old outputs only


class Unknown:
    """A value that a preview cannot know; equal to nothing but itself."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN = Unknown()


def plain(value: Any) -> Any:
    """Property values as dicts, lists and scalars; whole floats as integers."""
    inner = value.value if isinstance(value, PropertyValue) else value
    if isinstance(inner, Computed):
        return UNKNOWN
    if isinstance(inner, Mapping):
        return {k: plain(v) for k, v in inner.items()}
    if isinstance(inner, list | tuple):
        return [plain(v) for v in inner]
    if isinstance(inner, float) and inner.is_integer():
        return int(inner)
    return inner


def wrap(value: Any, secret: bool = False) -> PropertyValue:
    """Plain values as the engine wants them."""
    if isinstance(value, Mapping):
        return PropertyValue({str(k): wrap(v) for k, v in value.items()}, is_secret=secret)
    if isinstance(value, list | tuple):
        return PropertyValue([wrap(v) for v in value], is_secret=secret)
    if isinstance(value, bool) or value is None:
        return PropertyValue(value, is_secret=secret)
    if isinstance(value, int | float):
        return PropertyValue(float(value), is_secret=secret)
    return PropertyValue(str(value), is_secret=secret)


def has_unknown(value: Any) -> bool:
    if value is UNKNOWN:
        return True
    if isinstance(value, dict):
        return any(has_unknown(v) for v in value.values())
    return isinstance(value, list) and any(has_unknown(v) for v in value)


def without_nulls(value: Any) -> Any:
    """An object as the API wants it: a null is a field that is not set."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def project(live: Any, shape: Any) -> Any:
    """The live value of each field that `shape` manages, and of no other.

    A list keeps the shape's order where its items have names, since that is how they are merged.
    """
    if isinstance(shape, dict) and isinstance(live, dict):
        return {k: project(live[k], v) for k, v in shape.items() if k in live}
    if isinstance(shape, list) and isinstance(live, list):
        named = _named(shape), _named(live)
        if named[0] is not None and named[1] is not None:
            kept = [project(named[1][n], v) for n, v in named[0].items() if n in named[1]]
            return kept + [v for n, v in named[1].items() if n not in named[0]]
        if len(shape) == len(live):
            return [project(a, b) for a, b in zip(live, shape, strict=True)]
    return live


def _named(items: list[Any]) -> dict[str, Any] | None:
    if not items or not all(isinstance(i, dict) and "name" in i for i in items):
        return None
    found = {str(i["name"]): i for i in items}
    return found if len(found) == len(items) else None


def differences(old: Any, new: Any, path: str = "") -> dict[str, str]:
    """Path -> "add", "delete" or "update", for each leaf or subtree that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, str] = {}
        for key in sorted(set(old) | set(new)):
            where = f"{path}.{key}" if path else str(key)
            if "." in str(key) or "/" in str(key):
                where = f'{path}["{key}"]'
            if old.get(key) is None and new.get(key) is None:
                continue
            if old.get(key) is None:
                found[where] = "add"
            elif new.get(key) is None:
                found[where] = "delete"
            else:
                found |= differences(old[key], new[key], where)
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = {}
        for n, (a, b) in enumerate(zip(old, new, strict=True)):
            found |= differences(a, b, f"{path}[{n}]")
        return found
    return {} if _same(old, new) else {path: "update"}


def _same(old: Any, new: Any) -> bool:
    if old is UNKNOWN or new is UNKNOWN:
        return False
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    return bool(old == new)
