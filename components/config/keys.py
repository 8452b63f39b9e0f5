"""How a key is declared and read. Owns the types of keys; may not know any key by name.

A section of the config is a frozen dataclass whose fields are made by `key(...)` and followed by
a docstring each. `read_section` fills it from a mapping, refuses unknown keys, and calls the
section's own `check`. The documentation is generated from the same declarations (table.py).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from components.config.refusal import refusal

S = TypeVar("S")


def key(
    kind: str | type, default: Any = None, choices: Sequence[str] = (), spelled: str = ""
) -> Any:
    """A field of a section, in the config spelled in camel case or as `spelled`.

    kind: "string", "integer", "boolean", "strings" (list), "strings by name" (map), "parameters by
    name" (a map of PostgreSQL's), "object" or "objects" (as Kubernetes has them, passed on unread),
    or the dataclass of a section.
    """
    meta = {"kind": kind, "choices": tuple(choices), "spelled": spelled}
    if isinstance(kind, type):
        return dataclasses.field(default_factory=kind, metadata=meta)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def spelling(field: dataclasses.Field[Any]) -> str:
    """The config's spelling of a field's name."""
    head, *rest = field.name.split("_")
    return field.metadata["spelled"] or head + "".join(word.capitalize() for word in rest)


def docstrings(section: type) -> dict[str, str]:
    """Field name -> the docstring that follows it, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def read_section(section: type[S], values: object, path: str = "") -> S:
    """The section filled from the values; raises Refused with one sentence."""
    if not isinstance(values, Mapping):
        raise refusal(path, values, "it must be a map of keys")
    fields = {spelling(f): f for f in dataclasses.fields(cast(Any, section))}
    for name in values:
        if name not in fields:
            known = ", ".join(sorted(fields))
            raise refusal(join(path, str(name)), values[name], f"allowed keys here are {known}")
    given = {
        field.name: _read(field, values[name], join(path, name))
        for name, field in fields.items()
        if values.get(name) is not None and values.get(name) != ""
    }
    made = section(**given)
    check = getattr(made, "check", None)
    if check is not None:
        check(path)
    return made


def _read(field: dataclasses.Field[Any], value: object, path: str) -> Any:
    kind = field.metadata["kind"]
    if isinstance(kind, type):
        return read_section(kind, _structured(value), path)
    made = _READERS[kind](value, path)
    choices = field.metadata["choices"]
    if choices and made not in choices:
        raise refusal(path, value, "allowed is " + " or ".join(choices))
    return made


def _structured(value: object) -> object:
    """Pulumi hands maps and lists over as JSON text; a text that is no JSON stays a text."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return cast(object, json.loads(value))
        except json.JSONDecodeError:
            return value
    return value


def _string(value: object, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refusal(path, value, "it must be a text")
    return str(value)


def _integer(value: object, path: str) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d+(\.0)?", str(value), re.ASCII):
        raise refusal(path, value, "it must be a whole number")
    return int(float(str(value)))


def _boolean(value: object, path: str) -> bool:
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise refusal(path, value, "allowed is true or false")


def _strings(value: object, path: str) -> tuple[str, ...]:
    value = _structured(value)
    if not isinstance(value, list | tuple):
        raise refusal(path, value, "it must be a list of texts")
    return tuple(_string(item, f"{path}[{i}]") for i, item in enumerate(value))


def _strings_by_name(value: object, path: str) -> dict[str, str]:
    """As labels want them: `pulumi config set --path` makes a boolean of the words true, false."""
    return _by_name(value, path, "true", "false")


def _parameters_by_name(value: object, path: str) -> dict[str, str]:
    """As PostgreSQL writes them: YAML reads on and off as booleans."""
    return _by_name(value, path, "on", "off")


def _by_name(value: object, path: str, true: str, false: str) -> dict[str, str]:
    value = _structured(value)
    if not isinstance(value, Mapping):
        raise refusal(path, value, "it must be a map of texts")

    def text(item: object, where: str) -> str:
        if isinstance(item, bool):
            return true if item else false
        if isinstance(item, float) and item.is_integer():
            return str(int(item))
        return _string(item, where)

    return {str(name): text(item, join(path, str(name))) for name, item in value.items()}


def _object(value: object, path: str) -> dict[str, Any]:
    value = _structured(value)
    if not isinstance(value, Mapping):
        raise refusal(path, value, "it must be a map, as Kubernetes documents it")
    return dict(value)


def _objects(value: object, path: str) -> tuple[dict[str, Any], ...]:
    value = _structured(value)
    if not isinstance(value, list | tuple):
        raise refusal(path, value, "it must be a list of maps, as Kubernetes documents it")
    return tuple(_object(item, f"{path}[{i}]") for i, item in enumerate(value))


_READERS = {
    "string": _string,
    "integer": _integer,
    "boolean": _boolean,
    "strings": _strings,
    "strings by name": _strings_by_name,
    "parameters by name": _parameters_by_name,
    "object": _object,
    "objects": _objects,
}
