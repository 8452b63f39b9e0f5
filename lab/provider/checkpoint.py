"""What the state keeps of an object: the live one, and the inputs that made it. Pure.

The names are the official provider's, so that a state written under one can be read by the other.
"""

from __future__ import annotations

from typing import Any

from lab.provider.wire import Secret, marked, revealed

INPUTS = "__inputs"
INITIAL_VERSION = "__initialApiVersion"
MANAGER = "__fieldManager"


def state_of(
    live: dict[str, Any], inputs: dict[str, Any], given: Any, manager: str
) -> dict[str, Any]:
    """`given`: the inputs with their secrets marked; what they mark is secret in the state."""
    metadata = {k: v for k, v in live["metadata"].items() if k != "managedFields"}
    return {
        **marked({**live, "metadata": metadata}, given),
        INPUTS: marked(inputs, given),
        INITIAL_VERSION: inputs.get("apiVersion"),
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
    kept = state.get(MANAGER)
    return str(kept.value if isinstance(kept, Secret) else kept or "")
