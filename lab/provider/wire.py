"""Between the engine's protobuf values and plain Python. Owns secrets and unknowns, no meaning.

A tree is dicts, lists and scalars in which a `Secret` wraps what must stay secret and `UNKNOWN`
stands for what a preview cannot know yet. The SDK's own `pulumi.provider.experimental` takes an
unknown for a string, which is why the values are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2  # type: ignore[import-untyped]

# The engine's marks, as in the SDK's runtime/rpc.py; a unit test keeps them equal.
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_STRING = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
UNKNOWNS = frozenset(
    {
        UNKNOWN_STRING,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)


class Unknown:
    """A value that only the run itself will know; equal to nothing but itself."""

    def __repr__(self) -> str:
        return "<unknown>"

    def __deepcopy__(self, _: Any) -> Unknown:
        return self


UNKNOWN = Unknown()


class Secret:
    """A value that the engine encrypts in the state and never prints."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "<secret>"


def parse(struct: struct_pb2.Struct) -> dict[str, Any]:
    """What the engine sent, as a tree; whole numbers become integers."""
    return {key: _parse(value) for key, value in struct.fields.items()}


def _parse(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return UNKNOWN if value.string_value in UNKNOWNS else value.string_value
        case "list_value":
            return [_parse(each) for each in value.list_value.values]
        case "struct_value":
            return _parse_struct(value.struct_value)
        case _:
            return None


def _parse_struct(struct: struct_pb2.Struct) -> Any:
    fields = struct.fields
    if SIGNATURE not in fields:
        return parse(struct)
    mark = fields[SIGNATURE].string_value
    if mark == SECRET:
        return Secret(_parse(fields["value"]))
    if mark == OUTPUT:
        inner = _parse(fields["value"]) if "value" in fields else UNKNOWN
        return Secret(inner) if "secret" in fields and fields["secret"].bool_value else inner
    raise ValueError(f"an object of Kubernetes cannot hold an asset or a resource ({mark})")


def struct(tree: Mapping[str, Any]) -> struct_pb2.Struct:
    """A tree as the engine wants it."""
    return struct_pb2.Struct(fields={str(key): _value(value) for key, value in tree.items()})


def _value(tree: Any) -> struct_pb2.Value:
    if tree is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if tree is UNKNOWN:
        return struct_pb2.Value(string_value=UNKNOWN_STRING)
    if isinstance(tree, Secret):
        return struct_pb2.Value(struct_value=struct_pb2.Struct(fields={
            SIGNATURE: struct_pb2.Value(string_value=SECRET), "value": _value(tree.value),
        }))  # fmt: skip
    if isinstance(tree, bool):
        return struct_pb2.Value(bool_value=tree)
    if isinstance(tree, int | float):
        return struct_pb2.Value(number_value=float(tree))
    if isinstance(tree, Mapping):
        return struct_pb2.Value(struct_value=struct(tree))
    if isinstance(tree, list | tuple):
        values = [_value(each) for each in tree]
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=values))
    return struct_pb2.Value(string_value=str(tree))


def revealed(tree: Any) -> Any:
    """A copy without the marks of secrets: what the API is given."""
    if isinstance(tree, Secret):
        return revealed(tree.value)
    if isinstance(tree, Mapping):
        return {key: revealed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [revealed(value) for value in tree]
    return tree


def has_unknown(tree: Any) -> bool:
    return tree is UNKNOWN or any(has_unknown(each) for each in _parts(tree))


def has_secret(tree: Any) -> bool:
    return isinstance(tree, Secret) or any(has_secret(each) for each in _parts(tree))


def _parts(tree: Any) -> list[Any]:
    if isinstance(tree, Secret):
        return [tree.value]
    if isinstance(tree, Mapping):
        return list(tree.values())
    return list(tree) if isinstance(tree, list) else []


def marked(outputs: dict[str, Any], inputs: Any) -> dict[str, Any]:
    """`outputs`, secret wherever the inputs of the same place are or hold a secret.

    The data of a Secret of Kubernetes is secret whatever the inputs say. A list is secret whole.
    """
    if outputs.get("kind") == "Secret":
        return {
            key: Secret(value) if key in ("data", "stringData") and value is not None else value
            for key, value in outputs.items()
        }
    if isinstance(inputs, Secret):
        inputs = inputs.value
    if not isinstance(inputs, Mapping):
        return outputs
    found = dict(outputs)
    for key, given in inputs.items():
        value = found.get(key)
        if value is None or isinstance(value, Secret):
            continue
        if isinstance(value, dict) and isinstance(given, Mapping):
            found[key] = marked(value, given)
        elif has_secret(given):
            found[key] = Secret(value)
    return found
