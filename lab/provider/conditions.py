"""The annotation pulumi.com/waitFor: an await of the program's own. Pure.

`condition=Type[=Status]` and `jsonpath={path}[=value]`, or several of them as a JSON list. Paths
may have names, `['quoted names']`, indices, `[*]` and filters `[?(@.key=="text")]`; what else the
official provider's JSONPath knows is refused with a sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from lab.provider import kinds
from lab.provider.awaits import Around, Check

Object = dict[str, Any]
Step = Callable[[Any], list[Any]]


class Unreadable(Exception):
    """The annotation says nothing that can be waited for; the text is for the user."""


def of(live: Object) -> Check | None:
    """The await that the object's annotation asks for, if there is one."""
    given = kinds.annotation(live, "waitFor")
    if not given:
        return None
    wanted = [_parsed(each) for each in _expressions(given)]
    if not wanted:
        raise Unreadable("at least one condition must be specified in pulumi.com/waitFor")

    def check(obj: Object, _: Around) -> list[str]:
        return [said for each in wanted if (said := each(obj)) is not None]

    return check


def _expressions(given: str) -> list[str]:
    try:
        several = json.loads(given)
    except ValueError:
        return [given]
    whole = isinstance(several, list) and all(isinstance(each, str) for each in several)
    return several if whole else [given]


def _parsed(text: str) -> Callable[[Object], str | None]:
    """A function of the object: what is missing, or None."""
    kind, _, rest = text.partition("=")
    if kind == "condition":
        return _condition(rest)
    if kind == "jsonpath":
        return _json_path(rest)
    raise Unreadable(f'expected a "jsonpath=" or "condition=" prefix, got "{text}"')


def _condition(text: str) -> Callable[[Object], str | None]:
    name, _, status = text.partition("=")
    wanted = status or "True"

    def missing(obj: Object) -> str | None:
        said = f"Waiting for condition {name}={wanted}"
        kept = obj.get("status") or {}
        for each in kept.get("conditions") or []:
            if str(each.get("type")).lower() != name.lower():
                continue
            seen = each.get("observedGeneration", kept.get("observedGeneration"))
            if seen is not None and seen < obj["metadata"].get("generation", 0):
                return said
            fits = str(each.get("status")).lower() == wanted.lower()
            return None if fits else f"{said} (found {each.get('status')})"
        return said

    return missing


def _json_path(text: str) -> Callable[[Object], str | None]:
    match = re.fullmatch(r"\{\s*(.*?)\s*\}(?:=(.+))?", text)
    if match is None:
        raise Unreadable(f"pulumi.com/waitFor: format should be {{.path}}=value, got {text!r}")
    steps, wanted = _steps(match[1]), match[2]

    def missing(obj: Object) -> str | None:
        seen = (obj.get("status") or {}).get("observedGeneration")
        if seen is not None and seen < obj["metadata"].get("generation", 0):
            return f"Waiting for {text}"
        found: list[Any] = [obj]
        for step in steps:
            found = [value for each in found for value in step(each)]
        if not found:
            return f"{{{match[1]}}} selected nothing"
        if wanted is None:
            return None
        if isinstance(found[0], dict | list):
            raise Unreadable(f"pulumi.com/waitFor: {{{match[1]}}} has a non-primitive value")
        shown = _shown(found[0])
        return None if shown == wanted else f'Waiting for {text} (found "{shown}")'

    return missing


_NAME = re.compile(r"\.([A-Za-z_][\w-]*)")
_QUOTED = re.compile(r"\[(?:'([^']*)'|\"([^\"]*)\")\]")
_INDEX = re.compile(r"\[(-?\d+)\]")
_ALL = re.compile(r"\[\*\]|\.\*")
_FILTER = re.compile(r"\[\?\(?\s*@\.([\w-]+)\s*==\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)?\]")


def _steps(path: str) -> list[Step]:
    rest, steps = path.removeprefix("$"), list[Step]()
    while rest:
        for pattern, step in _STEPS:
            if match := pattern.match(rest):
                steps.append(step(match))
                rest = rest[match.end() :]
                break
        else:
            raise Unreadable(
                f"pulumi.com/waitFor: the lab's stand-in provider cannot read {rest!r} in the "
                f"path {path!r}: use the official provider, LAB_PROVIDER=official"
            )
    return steps


def _member(match: re.Match[str]) -> Step:
    name = next(each for each in match.groups() if each is not None)
    return lambda value: [value[name]] if isinstance(value, dict) and name in value else []


def _item(match: re.Match[str]) -> Step:
    n = int(match[1])
    return lambda value: (
        [value[n]] if isinstance(value, list) and -len(value) <= n < len(value) else []
    )


def _every(_: re.Match[str]) -> Step:
    return lambda value: (
        list(value.values()) if isinstance(value, dict)
        else value if isinstance(value, list) else []
    )  # fmt: skip


def _those(match: re.Match[str]) -> Step:
    key, text = match[1], match[2] if match[2] is not None else match[3]
    return lambda value: [
        each
        for each in (value if isinstance(value, list) else [])
        if isinstance(each, dict) and each.get(key) == text
    ]


_STEPS = (
    (_ALL, _every), (_NAME, _member), (_QUOTED, _member), (_INDEX, _item), (_FILTER, _those),
)  # fmt: skip


def _shown(value: Any) -> str:
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
