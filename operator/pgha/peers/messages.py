"""What members say to each other. Owns the shapes and their parsing; sends and decides nothing.

Parsers ignore unknown keys and take absent optional ones as unknown, so that versions can differ
by one during a rolling change; a wrong type or an absurd size is a ValueError of one sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

MAX_TEXT = 1024
MAX_HISTORY = 48 * 1024
MAX_NUMBER = 2**63 - 1

T = TypeVar("T")


@dataclass(frozen=True)
class MemberStatus:
    """One member's own view of itself; None and 0 mean "not known"."""

    name: str
    uid: str
    incarnation: str
    directory_id: str | None = None
    directory_state: str = "unknown"
    system_id: int | None = None
    timeline: int = 0
    lsn: int | None = None
    history_text: str = ""
    server_state: str = "unknown"
    holder_seen: str | None = None
    term_seen: int = 0
    attached_to: str | None = None
    healthy: bool = False
    why: str = ""
    hot: bool = False
    free_bytes: int | None = None
    rewindable_term: int = 0
    receiving: bool = False
    leaving: bool = False
    silent: float | None = None
    """Seconds since this standby heard this term's primary; None: it has not in this term."""
    record: str | None = None
    """The last record seen on the Lease, kept on disk (amendment 10)."""


@dataclass(frozen=True)
class VoteRequest:
    """Asks a voter to detach for good from terms below `term` and to tell its position."""

    term: int
    candidate: str
    incarnation: str


@dataclass(frozen=True)
class EarlyVoteRequest:
    """Asks a voter to receive nothing while the Lease stands at `version`, its holder's term being
    `term`, and to tell its position. Answered by a VoteAnswer of that term."""

    term: int
    version: str
    candidate: str


@dataclass(frozen=True)
class VoteAnswer:
    granted: bool
    name: str
    directory_id: str | None = None
    system_id: int | None = None
    timeline: int = 0
    lsn: int | None = None
    history_text: str = ""
    term: int = 0
    healthy: bool = True
    why: str = ""
    term_seen: int = 0
    """The highest term that this member knows of, where it refuses."""


@dataclass(frozen=True)
class PromiseRequest:
    """Asks for neither race, nor vote, nor detach for `seconds` from the answer on.

    With `deleted` only for the word that nobody has taken the lease from `holder`, which makes the
    Lease again then: what was deleted cannot be taken any more, so that nothing is promised."""

    holder: str
    term: int
    seconds: float
    deleted: bool = False


@dataclass(frozen=True)
class PromiseAnswer:
    promised: bool
    name: str
    directory_id: str | None = None
    why: str = ""
    term_seen: int = 0


@dataclass(frozen=True)
class ReleaseNotice:
    """The holder has given the lease back and could not write it: `record`, with the release, is
    what would have replaced the Lease at `version`."""

    version: str
    record: str


def to_json(message: Any) -> dict[str, Any]:
    """A message as the body of a request or an answer."""
    return dataclasses.asdict(message)


def parse(kind: type[T], body: Mapping[str, Any]) -> T:
    """A message of type `kind` from a body; raises ValueError with one sentence."""
    values: dict[str, Any] = {}
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        if each.name not in body:
            if each.default is dataclasses.MISSING:
                raise ValueError(f'{kind.__name__} lacks "{each.name}"')
            continue
        value = body[each.name]
        problem = _problem(each.name, str(each.type), value)
        if problem:
            raise ValueError(f'{kind.__name__}: "{each.name}" {problem}')
        values[each.name] = float(value) if str(each.type) == "float" else value
    return kind(**values)


def _problem(name: str, annotation: str, value: object) -> str | None:
    kinds = annotation.split(" | ")
    if value is None:
        return None if "None" in kinds else "must not be null"
    if "bool" in kinds:
        return None if isinstance(value, bool) else "must be true or false"
    if "str" in kinds:
        limit = MAX_HISTORY if name in ("history_text", "record") else MAX_TEXT
        if not isinstance(value, str):
            return "must be a text"
        return None if len(value) <= limit else f"is longer than {limit} characters"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    if "int" in kinds and not isinstance(value, int):
        return "must be a whole number"
    # A comparison with NaN is false, so this refuses it as well.
    return None if 0 <= value <= MAX_NUMBER else "is out of range"
