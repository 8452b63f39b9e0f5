"""Whom a standby follows, how it stops doing so, and which number a promotion takes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from pgha.lsn import Position
from pgha.postgres import processes
from pgha.postgres.server import ServerState
from tests.integration.postgres.inside import LOG, Place
from tests.integration.postgres.nodes import (
    ADDRESS,
    REPLICATION_PASSWORD,
    Node,
    eventually,
    one_version,
)

pytestmark = pytest.mark.integration

WITHIN = 20.0  # seconds


def pair(hot: bool = False) -> tuple[Node, Node]:
    primary = Node("ha-0").leading()
    return primary, Node("ha-1", port=5433, hot=hot).following(primary)


def startup_process(node: Node) -> int:
    ((pid, _),) = node.server._titles("startup")
    return pid


@pytest.mark.parametrize("hot", [False, True], ids=["warm", "hot"])
def test_attach_and_detach(image: Place, hot: bool) -> None:
    primary, standby = pair(hot)
    assert primary.heard() == {"ha-1"}
    assert standby.server.attached_to() is not None
    received = standby.received()
    assert received is not None and received <= primary.sql.flush_lsn()
    assert standby.server.detach(10.0)
    assert standby.server.receiver() is None
    assert standby.server.attached_to() is None
    eventually("the primary sees it gone", lambda: primary.heard() == set())
    standby.attached(primary)
    assert primary.heard() == {"ha-1"}
    standby.stopped().started()
    assert standby.server.receiver() is None, "it always starts detached"
    assert standby.server.attached_to() is None


@one_version
def test_told_before_it_can_hear(image: Place) -> None:
    """A signal without a handler kills, and a server that starts has none yet."""
    primary, standby = pair()
    for _ in range(5):
        standby.stopped()
        standby.server.start(standby.conf)
        standby.attached(primary)
        assert standby.server.running() and primary.heard() == {"ha-1"}


@one_version
def test_detached_is_detached_whenever_it_is_asked(image: Place) -> None:
    """Nothing is received after the word: a receiver of the former setting that was being started
    is let in nowhere."""
    primary, standby = pair()
    chance = random.Random(7)
    for _ in range(8):
        standby.server.attach(ADDRESS, primary.port, REPLICATION_PASSWORD, "ha-1", None)
        until = time.monotonic() + chance.uniform(0, 0.15)
        eventually("some time is over", lambda until=until: time.monotonic() > until)  # type: ignore[misc]
        assert standby.server.detach(10.0)
        cycles = LOG.read_text().count("waiting for WAL to become available")
        primary.ask("SELECT pg_logical_emit_message(true, 'x', 'y')")
        found = standby.directory.end_of_wal(WITHIN)

        def next_cycle(cycles: int = cycles) -> bool:
            assert standby.received() is None
            return LOG.read_text().count("waiting for WAL to become available") > cycles

        eventually("recovery looked for WAL again", next_cycle)
        assert standby.directory.end_of_wal(WITHIN) == found


@one_version
def test_a_receiver_that_does_not_end_is_ended(image: Place) -> None:
    """It is stopped, so it handles no signal but the last; PostgreSQL ends with it."""
    primary, standby = pair()
    receiver = standby.server.receiver()
    assert receiver is not None
    os.kill(receiver.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert standby.server.detach(2.0)
    assert time.monotonic() - began < 2.0 + 2.0
    assert standby.server.receiver() is None
    assert standby.server.poll() is ServerState.STOPPED
    standby.started().attached(primary)


@one_version
def test_replay_that_is_paused_does_not_keep_a_receiver(image: Place) -> None:
    primary, standby = pair(hot=True)
    standby.ask("SELECT pg_wal_replay_pause()")
    primary.ask("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    flushed = primary.sql.flush_lsn()
    eventually("it is received", lambda: (standby.received() or 0) >= flushed)
    assert standby.replayed() < flushed
    assert standby.server.detach(4.0)
    assert standby.server.receiver() is None
    assert standby.server.poll() is ServerState.STANDBY
    assert standby.directory.end_of_wal(WITHIN) == Position(2, flushed)
    standby.promoted()
    assert standby.ask("SELECT count(*) FROM t") == 1000


@one_version
def test_where_nobody_can_know_detached_is_not_said(image: Place) -> None:
    """The process that starts receivers is stopped and has not read its files again."""
    _, standby = pair()
    startup = startup_process(standby)
    os.kill(startup, signal.SIGSTOP)
    eventually("it is stopped", lambda: " T " in Path(f"/proc/{startup}/stat").read_text())
    began = time.monotonic()
    assert not standby.server.detach(0.6)
    assert time.monotonic() - began < 0.6 + 2.0
    os.kill(startup, signal.SIGCONT)
    assert standby.server.detach(10.0) or not standby.server.running()


def test_a_promotion_takes_the_next_number_that_is_free(image: Place) -> None:
    primary, standby = pair()
    lagging = Node("ha-2", port=5434).following(primary)
    late = Node("ha-3", port=5435).following(primary)
    assert lagging.server.detach(10.0) and late.server.detach(10.0)
    standby.catches_up(primary)
    assert standby.server.detach(10.0)
    end = standby.directory.end_of_wal(WITHIN)
    history = standby.directory.history(2)
    for number in (3, 4):
        standby.directory.stub_history(number, history, 2, end.lsn)
    standby.promoted()
    assert standby.sql.timeline(WITHIN) == 5
    assert [(s.timeline, s.at) for s in standby.directory.history(5)] == [
        *((s.timeline, s.at) for s in history), (2, end.lsn)
    ]  # fmt: skip
    lagging.attached(standby)
    lagging.stopped().started().attached(standby)
    assert lagging.directory.end_of_wal(WITHIN).timeline == 5
    standby.crash()
    standby.started().promoted()
    assert standby.sql.timeline(WITHIN) == 6
    primary.crash()
    for node in (lagging, late):
        node.attached(standby)
        assert node.server.detach(10.0)
        assert node.directory.end_of_wal(WITHIN).timeline == 6


def test_a_fork_that_was_not_reached_is_no_parent(image: Place) -> None:
    """PostgreSQL names the latest timeline it knows, so it has to be started on its own."""
    primary, standby = pair()
    lagging = Node("ha-2", port=5434).following(primary)
    assert lagging.server.detach(10.0)
    end = lagging.directory.end_of_wal(WITHIN)
    assert not lagging.directory.overtaken(end)
    standby.catches_up(primary)
    assert standby.server.detach(10.0)
    standby.promoted()
    fork = standby.directory.history(3)[-1]
    assert fork.timeline == end.timeline and fork.at > end.lsn
    # As its receiver fetches it, before it has come that far.
    shutil.copy(standby.wal / "00000003.history", lagging.wal)
    assert lagging.directory.overtaken(end)
    lagging.crash()
    spoilt = Node("ha-3", port=5435)
    shutil.copytree(lagging.pgdata, spoilt.pgdata, symlinks=True)
    spoilt.started().promoted()
    assert [s.timeline for s in spoilt.directory.history(4)][-1] == 3, "or the rule is for nothing"
    lagging.with_conf(timeline=str(end.timeline)).started().promoted()
    history = lagging.directory.history(4)
    assert (history[-1].timeline, history[-1].at) == (2, end.lsn)


def test_a_promotion_that_was_not_completed_is_not_followed(image: Place) -> None:
    """Its stubs are gone at the next start: another member took the number meanwhile."""
    primary, standby = pair()
    assert standby.server.detach(10.0)
    end = standby.directory.end_of_wal(WITHIN)
    for number in (3, 4, 5):
        standby.directory.stub_history(number, standby.directory.history(2), 2, end.lsn)
    assert standby.directory.end_of_wal(WITHIN) == end
    standby.crash()
    assert standby.directory.end_of_wal(WITHIN) == end
    primary.crash()
    primary.started().promoted()
    assert primary.sql.timeline(WITHIN) == 3
    standby.started().attached(primary)
    assert standby.server.detach(10.0)
    assert standby.directory.end_of_wal(WITHIN).timeline == 3
    standby.promoted()
    assert standby.sql.timeline(WITHIN) == 4


@one_version
def test_two_receivers_of_one_name_are_seen_as_two(image: Place) -> None:
    """Amendment 6: the holder has to find and end them."""
    primary, standby = pair()
    double = Node("ha-2", port=5434).following(primary)
    double.server.attach(ADDRESS, primary.port, REPLICATION_PASSWORD, "ha-1", None)
    def both() -> list[int]:
        seen = [s for s in primary.sql.replication() if s.state == "streaming"]
        return [s.pid for s in seen] if [s.name for s in seen] == ["ha-1", "ha-1"] else []

    pids = eventually("both stream", both)
    assert len(set(pids)) == 2
    assert double.server.detach(10.0)
    for pid in pids:
        primary.sql.terminate(pid)
    eventually("both are gone", lambda: all(processes.gone(pid) for pid in pids))
    eventually("one comes back", lambda: primary.heard() == {"ha-1"})


@one_version
def test_a_slot_lets_in_one_receiver_only(image: Place) -> None:
    primary, standby = pair()
    primary.sql.create_slot("pgha_ha_1")
    standby.server.attach(ADDRESS, primary.port, REPLICATION_PASSWORD, "ha-1", "pgha_ha_1")
    eventually("it uses its slot", lambda: primary.sql.slots()["pgha_ha_1"].active)
    double = Node("ha-2", port=5434).following(primary)
    double.server.attach(ADDRESS, primary.port, REPLICATION_PASSWORD, "ha-1", "pgha_ha_1")
    eventually("it is refused", lambda: 'slot "pgha_ha_1" is active for PID' in LOG.read_text())
    assert [s.name for s in primary.sql.replication()] == ["ha-1"]


def test_commits_wait_for_the_names(image: Place) -> None:
    primary, standby = pair()
    primary.server.set_sync_names('ANY 1 ("ha-1")')
    eventually("the names are active", lambda: primary.sql.sync_names() == 'ANY 1 ("ha-1")')
    primary.ask("CREATE TABLE t ()")
    (sender,) = primary.sql.replication()
    assert (sender.name, sender.sync_state) == ("ha-1", "quorum")
    receiver = standby.server.receiver()
    assert receiver is not None
    os.kill(receiver.pid, signal.SIGSTOP)
    notices: list[str] = []
    connection = primary.connect()
    connection.add_notice_handler(lambda d: notices.append(d.message_primary or ""))
    committing = threading.Thread(target=connection.execute, args=("CREATE TABLE u ()",))
    committing.start()
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    pid = eventually("it waits", lambda: primary.ask(waiting))
    assert primary.sql.alive(WITHIN).value == "alive", "the probe does not wait"
    primary.ask(f"SELECT pg_cancel_backend({pid})")
    committing.join(WITHIN)
    # A commit that is cancelled while it waits succeeds with a warning (amendment 18).
    assert "canceling wait for synchronous replication" in " ".join(notices)
    os.kill(receiver.pid, signal.SIGCONT)
    primary.ask("CREATE TABLE v ()")
    assert primary.ask("SELECT count(*) FROM pg_class WHERE relname IN ('t', 'u', 'v')") == 3
