"""The one way the program says no. Owns the form of the sentence; may not decide what is refused.

`Refused` is a `pulumi.RunError`, so that the engine prints the sentence and no traceback.
"""

from __future__ import annotations

import json

import pulumi


class Refused(pulumi.RunError):
    """A value, or a state of the cluster, with which nothing may be created."""


def shown(value: object) -> str:
    """The value as a person typed it: strings bare, everything else as JSON."""
    if isinstance(value, str):
        return value if value else '""'
    return json.dumps(value, default=str, ensure_ascii=False)


def refusal(key: str, value: object, allowed: str) -> Refused:
    """One sentence that names the key, the value and what is allowed."""
    return Refused(f"Config key {key} is {shown(value)}, but {allowed}.")
