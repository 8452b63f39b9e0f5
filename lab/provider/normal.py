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
    """Read-only metadata and empty values go; quantities are canonical; a Secret's stringData
    becomes data."""
    found = dict(obj)
    metadata = found.get("metadata")
    if isinstance(metadata, dict):
        found["metadata"] = {k: v for k, v in metadata.items() if k not in kinds.READ_ONLY}
    if kinds.built_in(str(found.get("apiVersion", ""))):
        found = _without_empty(canonicalized(found))
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


#: Fields of Kubernetes' types that are no pointers, so that their empty value is as good as none.
_NO_WHEN_FALSE = frozenset(
    "hostIPC hostNetwork hostPID paused publishNotReadyAddresses readOnly stdin stdinOnce "
    "tty".split()
)
_NO_WHEN_ZERO = frozenset(
    "failureThreshold hostPort initialDelaySeconds minReadySeconds nodePort periodSeconds "
    "successThreshold timeoutSeconds".split()
)
#: Texts that are pointers: there the empty one has a meaning of its own.
_TEXTS = frozenset(
    "ingressClassName loadBalancerClass runtimeClassName storageClassName "
    "volumeAttributesClassName".split()
)
#: Lists that are kept even if they are empty.
_LISTS = frozenset({"rules"})


def _without_empty(tree: Any) -> Any:
    """A copy without the empty values that the typed objects drop, and the API server too."""
    if isinstance(tree, list):
        return [_without_empty(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: value if key in kinds.FREE_FORM else _without_empty(value)
        for key, value in tree.items()
        if not _is_dropped(key, value)
    }


def _is_dropped(key: str, value: Any) -> bool:
    if value is False:
        return key in _NO_WHEN_FALSE
    if isinstance(value, str):
        return value == "" and key not in _TEXTS
    if isinstance(value, list):
        return not value and key not in _LISTS
    return value == 0 and isinstance(value, int | float) and key in _NO_WHEN_ZERO
