"""Inputs as the API server keeps them, so that equal meanings compare equal. Pure.

The official provider takes the inputs of a built-in kind through the typed objects of client-go
and back; this is what of that can be seen without the types.
"""

from __future__ import annotations

import base64
from typing import Any

from lab.provider import kinds
from lab.provider.quantities import canonicalized


def normalized(obj: dict[str, Any]) -> dict[str, Any]:
    """Read-only metadata goes; quantities are canonical; a Secret's stringData becomes data."""
    found = dict(obj)
    metadata = found.get("metadata")
    if isinstance(metadata, dict):
        found["metadata"] = {k: v for k, v in metadata.items() if k not in kinds.READ_ONLY}
    if kinds.built_in(str(found.get("apiVersion", ""))):
        found = canonicalized(found)
    if found.get("kind") == "Secret" and isinstance(found.get("stringData"), dict):
        texts = found.pop("stringData")
        found["data"] = {
            **(found.get("data") or {}),
            **{key: base64.b64encode(str(v).encode()).decode() for key, v in texts.items()},
        }
    return found


def without_nulls(value: Any) -> Any:
    """An object as the API wants it: a null is a field that is not set."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def without_unkept(new: Any, old: Any, live: Any) -> Any:
    """`new` without the empty values that the API server is known to drop.

    Such a value was sent before (`old`: the inputs that made `live`), is still wanted, and is not
    in the live object; in the official provider the typed object has dropped it.
    """
    if isinstance(new, dict) and isinstance(old, dict) and isinstance(live, dict):
        found = {}
        for key, value in new.items():
            if key in kinds.FREE_FORM:
                found[key] = value
            elif key in live or not (_is_empty(value) and old.get(key) == value):
                found[key] = without_unkept(value, old.get(key), live.get(key))
        return found
    if isinstance(new, list) and isinstance(old, list) and isinstance(live, list):
        paired = [without_unkept(*each) for each in zip(new, old, live, strict=False)]
        return paired + new[len(paired) :]
    return new


def _is_empty(value: Any) -> bool:
    return value in ("", 0, False) or (isinstance(value, list) and not value)
