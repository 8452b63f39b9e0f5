"""Whether a primary has the WAL that a standby needs, asked as its receiver would ask."""

from __future__ import annotations

import pytest

from pgha.lsn import Position
from pgha.postgres.supply import Answer, ask_for_wal
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import ADDRESS, REPLICATION_PASSWORD, Node, one_version

pytestmark = pytest.mark.integration

SEGMENT = 16 << 20
SLOT = "pgha_ha_1"


def primary_with_slot() -> Node:
    primary = Node("ha-0").leading()
    primary.sql.create_slot(SLOT)
    return primary


def ask(
    end: Position, password: str = REPLICATION_PASSWORD, slot: str = SLOT, port: int = 5432
) -> tuple[Answer, str]:
    return ask_for_wal(ADDRESS, password, slot, end, SEGMENT, 5.0, port)


def test_what_is_there_is_sent_and_what_is_gone_is_said_to_be(image: Place) -> None:
    """In the words of each version: what it says decides over a directory."""
    primary = primary_with_slot()
    (fork,) = primary.directory.history(2)
    now = Position(2, primary.sql.flush_lsn())
    before = Position(1, fork.at)
    assert [ask(end)[0] for end in (before, now, now)] == [Answer.SENT] * 3
    assert ask(Position(1, now.lsn))[0] is not Answer.LACKS
    for _ in range(2):
        primary.ask("SELECT pg_logical_emit_message(true, 'x', 'y')")
        primary.ask("SELECT pg_switch_wal()")
    later = Position(2, primary.sql.flush_lsn())
    (primary.wal / f"{2:08X}{0:08X}{int(now.lsn) // SEGMENT:08X}").unlink()
    for end in (before, now):
        answer, why = ask(end)
        assert answer is Answer.LACKS and "already been removed" in why, (answer, why)
    assert ask(later)[0] is not Answer.LACKS


@one_version
def test_what_is_not_heard_proves_nothing(image: Place) -> None:
    primary = primary_with_slot()
    end = Position(2, primary.sql.flush_lsn())
    for asked, word in (
        (ask(end, password="wrong"), "password"), (ask(end, slot="pgha_none"), "not exist"),
        (ask(end, port=5433), "refused"), (ask(Position(7, end.lsn)), "timeline"),
    ):
        assert asked[0] is Answer.UNKNOWN and word in asked[1], asked
    primary.stopped()
    assert ask(end)[0] is Answer.UNKNOWN
