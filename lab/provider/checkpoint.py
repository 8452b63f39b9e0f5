"""What the state keeps of an object: the live one, and the inputs that made it. Pure.

The names are the official provider's, so that a state written under one can be read by the other.
"""

from __future__ import annotations

from typing import Any

from lab.provider import kinds
from lab.provider.wire import Secret, marked, revealed

INPUTS = "__inputs"
INITIAL_VERSION = "__initialApiVersion"
MANAGER = "__fieldManager"


def state_of(
    live: dict[str, Any],
    inputs: dict[str, Any],
    given: Any,
    manager: str,
    initial_version: str = "",
) -> dict[str, Any]:
    """`given`: the inputs with their secrets marked; what they mark is secret in the state.

    `initial_version`: the apiVersion that the object was made with, once there is a state.
    """
    return {
        **marked(live, given),
        INPUTS: marked(inputs, given),
        INITIAL_VERSION: initial_version or inputs.get("apiVersion"),
        MANAGER: manager,
    }


def inputs_of(state: dict[str, Any]) -> dict[str, Any]:
    """The inputs of the last change, without marks of secrets."""
    kept = revealed(state.get(INPUTS) or {})
    return kept if isinstance(kept, dict) else {}


def live_of(state: dict[str, Any]) -> dict[str, Any]:
    """The object as it was seen last, without marks of secrets."""
    own = (INPUTS, INITIAL_VERSION, MANAGER)
    return {key: revealed(value) for key, value in state.items() if key not in own}


def manager_of(state: dict[str, Any]) -> str:
    """The field manager of the last apply."""
    return _text(state, MANAGER)


def initial_version_of(state: dict[str, Any]) -> str:
    """The apiVersion that the object was made with; empty without a state."""
    return _text(state, INITIAL_VERSION)


def _text(state: dict[str, Any], key: str) -> str:
    kept = state.get(key)
    return str(kept.value if isinstance(kept, Secret) else kept or "")


def imported(live: dict[str, Any]) -> dict[str, Any]:
    """`pulumi import` and `.get` know the id alone: all that can be an input becomes one.

    Of a kind that the SDK has no class for nobody can tell the inputs, so its identity alone is.
    """
    metadata = {k: v for k, v in live["metadata"].items() if k not in kinds.READ_ONLY}
    if not kinds.built_in(str(live.get("apiVersion"))):
        named = {k: v for k, v in metadata.items() if k in ("name", "namespace")}
        return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": named}
    annotations = dict(metadata.get("annotations") or {})
    for each in ("deployment.kubernetes.io/revision",
                 "kubectl.kubernetes.io/last-applied-configuration"):  # fmt: skip
        annotations.pop(each, None)
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    return {**{k: v for k, v in live.items() if k != "status"}, "metadata": metadata}
