"""What a person asked for, in annotations of the Lease. Owns their keys and their shape.

Written by `pgha switchover` and `pgha waive-quorum`. Text that cannot be read asks for nothing.
"""

from __future__ import annotations

import json
from typing import Any

from pgha.facts import Request, Waiver

SWITCHOVER, WAIVER = "pgha.dev/switchover", "pgha.dev/waiver"


def switchover(text: str | None) -> Request | None:
    given = _object(text)
    if given is None or "id" not in given:
        return None
    to = given.get("to")
    return Request(str(given["id"]), None if to is None else str(to))


def waiver(text: str | None) -> Waiver | None:
    given = _object(text)
    if given is None:
        return None
    member, term = given.get("member"), given.get("term")
    if not isinstance(member, str) or not isinstance(term, int) or isinstance(term, bool):
        return None
    return Waiver(str(given["id"]), term, member) if "id" in given else None


def dump(asked: Request | Waiver) -> str:
    if isinstance(asked, Request):
        return json.dumps({"id": asked.id, "to": asked.to})
    return json.dumps({"id": asked.id, "term": asked.term, "member": asked.member})


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        given = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return given if isinstance(given, dict) else None
