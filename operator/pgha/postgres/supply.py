"""Does a primary still have the WAL that is next here? Asked as a receiver asks; nothing is kept.

A receiver's own words are in PostgreSQL's log alone, and what ends it may be a firewall, TLS, a
password or a slot as well. The same question by the agent tells them apart.
"""

from __future__ import annotations

import enum
from pathlib import Path

from pgha.lsn import LSN, Position
from pgha.postgres import conf as c
from pgha.postgres.wire import WireError, connected

NAME = "pgha-supply"  # no member's: nothing is acknowledged by it
ASK_WITHIN = 5.0  # seconds
PORT = 5432
# "requested WAL segment ... has already been removed" (walsender.c, WalSndSegmentOpen): no file.
_REMOVED = "58P01"


class Answer(enum.Enum):
    SENT = "sent"  # the source has it and sends it
    LACKS = "lacks"  # the source was reached and says that it is gone
    UNKNOWN = "unknown"  # anything else


def ask_for_wal(
    host: str, password: str, slot: str, end: Position, segment_size: int,
    timeout: float = ASK_WITHIN, port: int = PORT,
) -> tuple[Answer, str]:
    """The answer, and one sentence. A receiver asks from the segment's beginning on."""
    # The password is in no file: one there would let in a receiver that is to have none.
    where = c.connection(host, port, NAME, Path())
    del where["passfile"]
    where |= {"password": password, "replication": "true"}
    begin = LSN(int(end.lsn) // segment_size * segment_size)
    try:
        with connected(where, timeout) as wire:
            wire.stream(
                f"START_REPLICATION SLOT {slot} PHYSICAL {begin} TIMELINE {end.timeline}"
            )
    except WireError as e:
        if e.kind == "refused" and e.sqlstate == _REMOVED:
            return Answer.LACKS, f"{host} lacks WAL from {begin} on, timeline {end.timeline}: {e}"
        return Answer.UNKNOWN, f"{host} does not send WAL from {begin} on: {e}"
    return Answer.SENT, (
        f"{host} sends WAL from {begin} on to the agent here, but PostgreSQL receives none: see "
        "its log"
    )
