"""A promotion that ends after it has written its history file, and the one that follows it."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pgha import actions as a
from pgha.executor import Executor
from pgha.facts import Claim, Facts, LeaseView, Replication, Run, RunView, Tenure
from pgha.gather import branch_of
from pgha.member import Member
from pgha.postgres.server import ServerState
from pgha.rules import decide
from pgha.rules.promotion import intended
from tests.integration.postgres.inside import SMALL, Place
from tests.integration.postgres.nodes import Node, eventually
from tests.unit.pgha.by_hand import ME, MINE, RECORD, primary

pytestmark = pytest.mark.integration

WITHIN = 30.0  # seconds
SEGMENT = 16 << 20  # bytes
BETWEEN = 24 << 20  # bytes; room for the first segment of a timeline, and not for the next


def crowded() -> tuple[Node, Member]:
    """A former primary on timeline 2 with little room, started read-only. In the last quarter of
    a segment PostgreSQL makes the next one ahead, before the record that ends a recovery."""
    node = Node("ha-0", base=SMALL / "ha-0").leading()
    node.ask("CREATE TABLE kept AS SELECT generate_series(1, 100) n")
    while int(node.sql.flush_lsn()) % SEGMENT < 0.8 * SEGMENT:
        node.ask("SELECT pg_logical_emit_message(true, 'x', repeat('y', 500000))")
    node.stopped().started()
    ballast = os.open(SMALL / "ballast", os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(ballast, 0, node.directory.free_bytes() - BETWEEN)
    os.close(ballast)
    member = Member(node.directory)
    member.look()
    return node, member


def holding(member: Member, record: Any) -> Facts:
    """What the holder knows before its promotion."""
    member.read_end(WITHIN)
    data = member.data
    assert data.end is not None
    branch = branch_of(record, ME, data.history, data.end)
    return replace(
        primary(), lease=LeaseView(Claim.HELD, MINE, 1.0, record), run=RunView(Run.STANDBY),
        tenure=Tenure(record.term, 8.0, 5.0), replication=Replication(),
        data=replace(data, system_id=7, directory_id="d0", branch=branch),
    )


def promote(node: Node, member: Member, f: Facts, number: int) -> None:
    keeper = SimpleNamespace(tenure=lambda: f.tenure)
    executor: Any = SimpleNamespace(member=member, keeper=keeper, server=node.server)
    Executor.promote(executor, a.Promote(number), f)


def test_the_number_of_a_promotion_that_ended_midway_is_used(image: Place) -> None:
    node, member = crowded()
    born = replace(RECORD, term=5, history=node.directory.history(2))
    f = holding(member, born)
    record = intended(f, 5)
    assert (f.data.timeline, f.data.newest, record.highest_number) == (2, 2, 3)
    promote(node, member, f, 3)
    eventually("it ended", lambda: node.server.poll() is ServerState.STOPPED)
    assert node.server.kill(WITHIN)
    (SMALL / "ballast").unlink()

    member.promoting = 0
    member.look()
    node.started()
    f = holding(member, record)
    assert f.data.newest == 3
    # Version 13 makes the next segment ahead after that record.
    assert f.data.timeline == (3 if node.conf.major == 13 else 2)
    decision = decide(f)
    (again,) = decision.actions
    assert decision.rule == "intent-spent" and isinstance(again, a.Acquire)
    f = holding(member, again.record)
    record = intended(f, 6)
    assert record.open_intent is not None and record.open_intent.number == 4
    promote(node, member, f, 4)
    node.reaches(ServerState.PRIMARY)
    assert node.sql.timeline(WITHIN) == 4
    assert node.ask("SELECT count(*) FROM kept") == 100
    assert [s.timeline for s in node.directory.history(4)] == [1, 2, 3]
