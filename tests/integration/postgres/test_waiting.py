"""When commits begin to wait for standbys: the checkpointer says so, and may be late."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import AbstractContextManager

import psycopg
import pytest

from pgha import quorum
from pgha.clock import boottime
from pgha.postgres import processes
from pgha.pulse import Pulse
from pgha.record import Record
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import (
    PASSWORD,
    REPLICATION_PASSWORD,
    USERNAME,
    Node,
    eventually,
    halted,
    one_version,
)

pytestmark = pytest.mark.integration

NAMES = 'ANY 1 ("ha-1")'
AT_START = quorum.at_start(Record(), synchronous=True)
SOON = 2.0  # seconds for a commit that waits for nobody
A_WHILE = 3.0  # seconds in which a barrier would have passed


def checkpointer(node: Node) -> int | None:
    title = f"postgres: {node.name}: checkpointer"
    return next((p for p in processes.everybody() if processes.title(p) == title), None)


def without_checkpointer(node: Node) -> AbstractContextManager[None]:
    """As in a checkpoint's long sync phase: it reads no reload."""
    pid = checkpointer(node)
    assert pid is not None
    return halted(pid)


def waits(node: Node) -> bool:
    """Does a commit wait for a standby? What is left of it is ended."""
    connection: psycopg.Connection[object] = node.connect()

    def commit() -> None:
        with connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'x', 'y')")

    pid = connection.info.backend_pid
    committing = threading.Thread(target=commit, daemon=True)
    committing.start()
    committing.join(SOON)
    waiting = committing.is_alive()
    if waiting:
        how = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"
        assert node.ask(how) == "SyncRep"
        node.ask(f"SELECT pg_cancel_backend({pid})")
        committing.join(SOON)
    return waiting


def pulse_of(primary: Node, standby: str) -> Pulse:
    return Pulse(
        primary.sql, lambda: True, lambda: 2, lambda name, since: "d1",
        lambda: (1, frozenset({standby})), lambda: None, primary.server.waited,
    )


def passes(pulse: Pulse, seconds: float) -> bool:
    until = boottime() + seconds
    while not pulse.barrier.passed and boottime() < until:
        pulse._now.wait(0.2)
        pulse._now.clear()
        pulse._take()
    return pulse.barrier.passed


@one_version
def test_names_that_are_seen_are_no_barrier_before_the_checkpointer_has_read_them(
    image: Place,
) -> None:
    """A degraded cluster whose standby is back while a long checkpoint runs."""
    primary = Node("ha-0").leading()
    Node("ha-1", port=5433).following(primary)
    pulse = pulse_of(primary, "ha-1")
    pulse.begin()
    with without_checkpointer(primary):
        primary.server.set_sync_names(NAMES)
        pulse.told(NAMES)
        eventually("the names are active", lambda: primary.sql.sync_names() == NAMES)
        (standby,) = [s for s in primary.sql.replication() if s.name == "ha-1"]
        os.kill(standby.pid, signal.SIGSTOP)  # its walsender: nothing can be acknowledged by it
        assert not waits(primary), "the trap: the names are seen, and nobody is waited for"
        os.kill(standby.pid, signal.SIGCONT)
        assert not passes(pulse, A_WHILE)
        assert pulse.replication.sync_names == NAMES
    assert passes(pulse, 20.0)
    (standby,) = [s for s in primary.sql.replication() if s.name == "ha-1"]
    os.kill(standby.pid, signal.SIGSTOP)
    assert waits(primary)
    os.kill(standby.pid, signal.SIGCONT)


def test_a_standby_that_waited_from_its_start_waits_once_promoted(image: Place) -> None:
    """Its first commits too, though its checkpointer has not read the names yet; and nobody of
    the agent's waits for those that nobody bears."""
    node = Node("ha-0").with_conf(sync_names=AT_START).filled().started()
    eventually("the checkpointer has begun", node.server.waited)
    with without_checkpointer(node):
        node.server.set_sync_names(NAMES)
        node.promoted()
        eventually("the names are active", lambda: node.sql.sync_names() == NAMES)
        assert node.server.waited()
        assert waits(node)
        node.sql.setup_roles(USERNAME, PASSWORD, REPLICATION_PASSWORD, None)
    assert node.sql.look(5.0).sync_names == NAMES


@one_version
def test_a_standby_that_started_for_nobody_does_not_wait_once_promoted(image: Place) -> None:
    """Why it starts anew where the mode was changed."""
    node = Node("ha-0").filled().started()
    eventually("there is one", lambda: checkpointer(node))
    with without_checkpointer(node):
        node.server.set_sync_names(NAMES)
        node.promoted()
        eventually("the names are active", lambda: node.sql.sync_names() == NAMES)
        assert node.server.waited() is False
        assert not waits(node), "the trap: the names were in place before the promotion"


@one_version
def test_those_that_nobody_bears_end_with_names_that_are_told(image: Place) -> None:
    """A cluster that may not wait: degraded, or born with one member."""
    node = Node("ha-0").with_conf(sync_names=AT_START).filled().started()
    node.server.set_sync_names("")
    node.promoted()
    assert node.server.waited() is False
    eventually("nobody is waited for", lambda: not waits(node))
    primary = Node("ha-1", port=5433).with_conf(sync_names=AT_START).leading()
    assert primary.sql.sync_names() == AT_START and waits(primary)


@pytest.mark.parametrize("image", ["13", "15"], indirect=True)
def test_a_checkpointer_that_has_not_begun_is_not_known_to_have_read_the_names(
    image: Place,
) -> None:
    """Until 14 it is started with the archive recovery, after the server."""
    node = Node("ha-0").with_conf(sync_names=AT_START).filled()
    node.server.start(node.conf)
    eventually("there is one", lambda: checkpointer(node))
    with without_checkpointer(node):
        halted = node.server.waited()
    eventually("it has begun", node.server.waited)
    assert halted in (None, True)
