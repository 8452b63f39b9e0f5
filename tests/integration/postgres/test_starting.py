"""From an empty folder to a server: initialization, starts, states, and what ends a server."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from pgha.postgres import processes
from pgha.postgres.directory import Directory, DirectoryError, DirectoryState
from pgha.postgres.server import ServerState
from pgha.postgres.sql import Alive
from tests.integration.postgres.inside import LOG, Place
from tests.integration.postgres.nodes import (
    PASSWORD,
    REPLICATION_PASSWORD,
    USERNAME,
    Node,
    eventually,
    one_version,
)

pytestmark = pytest.mark.integration


def states_until(node: Node, last: ServerState, seconds: float = 20.0) -> list[ServerState]:
    """Every change of state up to the last one."""
    seen: list[ServerState] = []

    def there() -> bool:
        now = node.server.poll()
        if seen[-1:] != [now]:
            seen.append(now)
        return now is last

    eventually(f"it is {last.value}", there, seconds)
    return seen


def backends(node: Node) -> list[int]:
    """Every process of the server but the postmaster."""
    postmaster = int((node.pgdata / "postmaster.pid").read_text().split()[0])
    return processes.all_children(postmaster)


# -- initialization -----------------------------------------------------------------------------


def test_initialization_has_two_stages(image: Place) -> None:
    node = Node("ha-0")
    assert node.directory.state() is DirectoryState.EMPTY
    node.directory.initdb(USERNAME, 60.0)
    assert node.directory.state() is DirectoryState.INITIALIZING
    node.server.start_private(node.conf)
    assert node.server.poll() is ServerState.PRIMARY
    assert node.show("listen_addresses") == ""
    node.sql.setup_roles(USERNAME, PASSWORD, REPLICATION_PASSWORD, "app")
    node.stopped()
    assert node.directory.state() is DirectoryState.INITIALIZING, "it was not said to be done"
    made = node.directory.new_id()
    node.directory.initialized()
    assert node.directory.state() is DirectoryState.READY
    assert node.directory.directory_id == made
    control = node.directory.control()
    assert control.cleanly_stopped and control.timeline == 1 and control.data_checksums
    assert control.limits["max_wal_senders"] == 99
    node.started().promoted()
    assert node.ask("SELECT datcollate FROM pg_database WHERE datname = 'app'") == "C.UTF-8"


@one_version
def test_a_first_stage_that_was_killed_is_repeated(image: Place) -> None:
    node = Node("ha-0")

    def strike() -> None:
        eventually("initdb has begun", lambda: (node.pgdata / "base").exists())
        for pid in processes.everybody():
            if processes.name(pid) == "initdb":
                os.kill(pid, signal.SIGKILL)

    striker = threading.Thread(target=strike)
    striker.start()
    with pytest.raises(DirectoryError, match="initdb failed"):
        node.directory.initdb(USERNAME, 60.0)
    striker.join()
    assert node.directory.state() is DirectoryState.INITIALIZING
    node.directory.initdb(USERNAME, 60.0)
    node.server.start_private(node.conf)
    node.crash()
    assert node.directory.state() is DirectoryState.INITIALIZING
    node.directory.initdb(USERNAME, 60.0)
    node.directory.initialized()
    assert node.directory.state() is DirectoryState.READY


@one_version
def test_what_has_data_is_not_initialized(image: Place) -> None:
    node = Node("ha-0").filled()
    before = sorted(p.name for p in node.pgdata.iterdir())
    for prepare in (lambda: None, lambda: node.directory.mark_dirty("a test")):
        prepare()
        with pytest.raises(DirectoryError, match="is not empty"):
            node.directory.initdb(USERNAME, 60.0)
        assert sorted(p.name for p in node.pgdata.iterdir()) == before
        assert node.directory.read_note("initializing") is None


@one_version
def test_an_initdb_that_hangs_ends(image: Place) -> None:
    node = Node("ha-0")
    folder = Path("/tmp/slow")
    folder.mkdir()
    (folder / "initdb").write_text("#!/bin/sh\nexec sleep 60\n")
    (folder / "initdb").chmod(0o755)
    with pytest.raises(DirectoryError, match="did not end"):
        Directory(node.pgdata, folder).initdb(USERNAME, 0.3)


@one_version
def test_a_directory_that_is_none_is_told_apart(image: Place) -> None:
    node = Node("ha-0").filled()
    (node.pgdata / "PG_VERSION").write_text("12\n")
    assert node.directory.state() is DirectoryState.OTHER_MAJOR
    assert "pg_upgrade" in node.directory.explain()
    (node.pgdata / "PG_VERSION").write_text(f"{node.directory.major}\n")
    control = node.pgdata / "global/pg_control"
    content = bytearray(control.read_bytes())
    content[40] ^= 0xFF
    control.write_bytes(content)
    assert node.directory.state() is DirectoryState.BROKEN
    assert "corrupt" in node.directory.explain()
    control.unlink()
    assert node.directory.state() is DirectoryState.BROKEN
    node.directory.mark_dirty("a test")
    assert node.directory.state() is DirectoryState.DIRTY


# -- starts and states --------------------------------------------------------------------------


@pytest.mark.parametrize("hot", [False, True], ids=["warm", "hot"])
def test_the_states_of_a_start_and_a_promotion(image: Place, hot: bool) -> None:
    node = Node("ha-0", hot=hot).filled()
    assert node.server.poll() is ServerState.STOPPED
    node.server.start(node.conf)
    seen = states_until(node, ServerState.STANDBY)
    assert set(seen) <= {ServerState.STARTING, ServerState.RECOVERING, ServerState.STANDBY}
    assert seen[-1] is ServerState.STANDBY
    if hot:
        assert node.ask("SELECT pg_is_in_recovery()") is True
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            node.ask("CREATE TABLE t ()")
    else:
        with pytest.raises(psycopg.OperationalError, match="the database system is"):
            node.connect()
    node.server.promote()
    seen = states_until(node, ServerState.PRIMARY)
    assert set(seen) <= {ServerState.STANDBY, ServerState.PRIMARY}
    node.ask("CREATE TABLE t ()")
    assert node.ask("SELECT pg_is_in_recovery()") is False
    assert not node.server.in_recovery()
    assert node.server.stop("fast", 20.0)
    assert node.server.poll() is ServerState.STOPPED
    assert node.server.exit() == 0


def test_a_primary_that_crashed_comes_back_read_only(image: Place) -> None:
    node = Node("ha-0", hot=True).leading()
    node.ask("CREATE TABLE t AS SELECT generate_series(1, 100000)")
    node.crash()
    (node.pgdata / "promote").touch()
    (node.pgdata / "recovery.signal").touch()
    node.server.start(node.conf)
    seen = states_until(node, ServerState.STANDBY)
    assert ServerState.PRIMARY not in seen
    assert not (node.pgdata / "promote").exists()
    assert not (node.pgdata / "recovery.signal").exists()
    assert node.ask("SELECT pg_is_in_recovery()") is True
    assert node.ask("SELECT count(*) FROM t") == 100000


@one_version
def test_a_long_recovery_is_recovering(image: Place) -> None:
    node = Node("ha-0", hot=True, max_wal_size="8GB", synchronous_commit="off").leading()
    node.ask("CREATE TABLE t (n int, x text)")
    node.sql.checkpoint(20.0)
    node.ask("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 1000000) n")
    node.crash()
    node.server.start(node.conf)
    assert ServerState.RECOVERING in states_until(node, ServerState.STANDBY, 60.0)


@one_version
def test_nobody_can_pass_for_a_process_of_the_server(image: Place) -> None:
    """Titles hold what clients choose: their name and their database."""
    node = Node("ha-0").leading()
    for role in ("startup", "walreceiver", "walsender"):
        node.ask(f"CREATE ROLE {role} SUPERUSER LOGIN")
    for database in ("recovering", "idle", "streaming", "waiting"):
        node.ask(f"CREATE DATABASE {database}")
    clients = [
        node.connect(user=user, dbname=database)
        for user, database in (
            ("startup", "recovering"), ("startup", "waiting"), ("walreceiver", "idle"),
            ("walreceiver", "streaming"), ("walreceiver", "waiting"), ("walsender", "idle"),
        )
    ]  # fmt: skip
    assert node.server.poll() is ServerState.PRIMARY
    assert node.server.receiver() is None
    assert node.server.walsenders() == []
    assert len(clients) == 6


@one_version
def test_what_a_former_container_left_is_no_hindrance(image: Place) -> None:
    """postmaster.pid names a process that is somebody else's now."""
    node = Node("ha-0").filled()
    node.started().crash()
    lines = (node.pgdata / "postmaster.pid").read_text().splitlines()
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            lines[0] = str(other.pid)
            (node.pgdata / "postmaster.pid").write_text("\n".join(lines) + "\n")
            node.started().promoted()
            assert node.sql.alive(5.0).value == "alive"
            assert other.poll() is None
        finally:
            other.kill()


@one_version
def test_no_second_server_on_one_directory(image: Place) -> None:
    first = Node("ha-0").leading()
    postmaster = int((first.pgdata / "postmaster.pid").read_text().split()[0])
    with first.connect() as connection:
        connection.execute("BEGIN")
        second = Node("ha-0", port=5433).started()
        assert processes.gone(postmaster)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert second.server.poll() is ServerState.STANDBY


@one_version
def test_settings_that_a_standby_cannot_have_smaller_are_not(image: Place) -> None:
    """A hot standby refuses to replay with less than the primary has: PostgreSQL's words."""
    node = Node("ha-0", hot=True, max_connections="150").leading()
    node.sql.checkpoint(20.0)
    node.stopped()
    node.with_conf(parameters={"max_connections": "50", "max_worker_processes": "20"}).started()
    assert node.show("max_connections") == "150"
    assert node.show("max_worker_processes") == "20"
    node.stopped()
    node.with_conf(hot=False).started().promoted()
    assert node.show("max_connections") == "50"


# -- ends ---------------------------------------------------------------------------------------


def test_kill_finds_every_process_whatever_its_session(image: Place) -> None:
    node = Node("ha-0").leading()
    connections = [node.connect() for _ in range(3)]
    everybody = [int((node.pgdata / "postmaster.pid").read_text().split()[0]), *backends(node)]
    sessions = {os.getsid(pid) for pid in everybody}
    assert len(sessions) >= 4, "each backend has one of its own"
    os.kill(everybody[0], signal.SIGSTOP)
    os.kill(everybody[-1], signal.SIGSTOP)
    began = time.monotonic()
    assert node.server.kill(10.0)
    assert time.monotonic() - began < 8.0
    # One that has given back its memory and files may still be on its way out.
    eventually("all have ended", lambda: all(processes.gone(pid) for pid in everybody), 1.0)
    node.server.reap()
    assert not [p for p in processes.all_children(1) if processes.name(p) == "postgres"]
    assert connections
    assert node.server.poll() is ServerState.STOPPED


@one_version
def test_orphans_of_a_postmaster_are_found(image: Place) -> None:
    node = Node("ha-0").leading()
    with node.connect() as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        os.kill(pid, signal.SIGSTOP)
        os.kill(int((node.pgdata / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        eventually("the postmaster is gone", lambda: not node.server.running())
        assert node.server.exit() == -signal.SIGKILL
        assert not processes.gone(pid), "a backend outlives its postmaster"
        assert node.server.kill(10.0)
        eventually("it has ended", lambda: processes.gone(pid), 1.0)


@one_version
def test_a_shell_in_the_directory_is_left_alone(image: Place) -> None:
    node = Node("ha-0").leading()
    with subprocess.Popen(["sleep", "60"], cwd=node.pgdata) as shell:
        try:
            node.crash()
            assert shell.poll() is None
            node.started()
            assert node.server.stop("immediate", 10.0)
            assert shell.poll() is None
        finally:
            shell.kill()


@one_version
def test_a_stop_that_cannot_end_says_so_in_time(image: Place) -> None:
    node = Node("ha-0").leading()
    with node.connect() as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        os.kill(pid, signal.SIGSTOP)
        assert not node.server.stop("fast", 0.5)
        assert node.server.poll() is ServerState.STOPPING
        assert node.server.kill(10.0)
        with suppress(psycopg.Error):
            connection.close()


@one_version
def test_a_backend_that_is_killed_ends_the_server(image: Place) -> None:
    """The agent decides what follows a crash; a restart by itself would be writable."""
    node = Node("ha-0").leading()
    assert node.show("restart_after_crash") == "off"
    with node.connect() as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        os.kill(pid, signal.SIGKILL)
        eventually("the server has ended", lambda: not node.server.running())
    assert node.server.poll() is ServerState.STOPPED
    assert node.server.kill(5.0)
    assert node.directory.control().state == "in production"


@one_version
def test_a_server_keeps_the_lock_that_it_was_given(image: Place) -> None:
    """An exclusive lock on it proves that every process has ended (amendment 21)."""
    import fcntl

    path = Path("/tmp/alive.lock")
    held = os.open(path, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(held, True)
    fcntl.flock(held, fcntl.LOCK_EX)
    node = Node("ha-0").filled()
    node.directory.kept = (held,)
    node.started()
    os.close(held)
    again = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    node.crash()
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert "FATAL" not in LOG.read_text()


def test_a_smart_shutdown_waits_for_a_session_and_can_be_hurried(image: Place) -> None:
    """SIGTERM to the postmaster; nobody of the agent's asked for it."""
    node = Node("ha-0").leading()
    with node.connect() as session:
        pid = int((node.pgdata / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGTERM)
        node.reaches(ServerState.STOPPING)
        session.execute("SELECT 1")
        assert node.server.poll() is ServerState.STOPPING, "for as long as the session lives"
        assert node.sql.alive(5.0) is Alive.BUSY_OR_REFUSING, "and nobody else gets in"
        assert node.server.stop("fast", 20.0)
    assert node.directory.control().cleanly_stopped
