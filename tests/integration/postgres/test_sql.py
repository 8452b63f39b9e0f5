"""What the agent learns and changes by SQL, and that each call ends in time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgha.lsn import LSN
from pgha.member import Member
from pgha.postgres import processes
from pgha.postgres.server import ServerState
from pgha.postgres.sql import Alive, SqlError
from pgha.postgres.wire import WireError, connected
from tests.integration.postgres.inside import LOG, SMALL, Place
from tests.integration.postgres.nodes import (
    ADDRESS,
    PASSWORD,
    REPLICATION_PASSWORD,
    USERNAME,
    Node,
    eventually,
    halted,
    one_version,
)

pytestmark = pytest.mark.integration

SOON = 0.5  # seconds given to a call that gets no answer
SLACK = 2.0  # seconds by which a busy machine may be late


@contextmanager
def ends_in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON + SLACK


def postmaster(node: Node) -> int:
    return int((node.pgdata / "postmaster.pid").read_text().splitlines()[0])


def test_a_primary_is_seen_alive_and_read(image: Place) -> None:
    node = Node("ha-0").leading()
    before = node.sql.flush_lsn()
    assert node.sql.alive(5.0) is Alive.ALIVE
    after = node.sql.flush_lsn()
    assert after > before, "the probe writes and flushes"
    assert node.sql.timeline(5.0) == 2
    look = node.sql.look(5.0)
    assert look.alive is Alive.ALIVE
    assert look.flush is not None and look.flush > after
    assert (look.sync_names, look.senders, look.slots) == ("", (), {})


def test_slots_are_made_advanced_and_dropped(image: Place) -> None:
    node = Node("ha-0").leading()
    node.sql.create_slot("pgha_ha_1")
    node.sql.create_slot("pgha_ha_1")
    assert {n: (s.active, s.lost) for n, s in node.sql.slots().items()} == {
        "pgha_ha_1": (False, False)
    }
    assert node.sql.look(5.0).slots == node.sql.slots()
    end = node.sql.flush_lsn()
    node.sql.advance_slot("pgha_ha_1", end)
    assert node.ask("SELECT restart_lsn::text FROM pg_replication_slots") == str(end)
    node.sql.drop_slot("pgha_ha_1")
    node.sql.drop_slot("pgha_ha_1")
    assert node.sql.slots() == {}


@one_version
def test_a_hot_standby_has_slots_of_its_own(image: Place) -> None:
    """Law, point 13; a warm one answers no SQL at all."""
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433, hot=True).following(primary)
    standby.sql.create_slot("pgha_ha_2")
    primary.ask("CREATE TABLE t ()")
    end = primary.sql.flush_lsn()
    eventually("it is replayed", lambda: standby.replayed() >= end)
    standby.sql.advance_slot("pgha_ha_2", end)
    assert standby.ask("SELECT restart_lsn::text FROM pg_replication_slots") == str(end)
    assert list(standby.sql.slots()) == ["pgha_ha_2"]
    standby.sql.drop_slot("pgha_ha_2")
    assert standby.sql.slots() == {}


@one_version
def test_a_slot_in_use_is_not_dropped(image: Place) -> None:
    primary = Node("ha-0").leading()
    primary.sql.create_slot("pgha_ha_1")
    standby = Node("ha-1", port=5433).following(primary)
    standby.server.attach(ADDRESS, primary.port, REPLICATION_PASSWORD, "ha-1", "pgha_ha_1")
    eventually("the slot is in use", lambda: primary.sql.slots()["pgha_ha_1"].active)
    primary.sql.drop_slot("pgha_ha_1")
    assert "pgha_ha_1" in primary.sql.slots()


@one_version
def test_every_reply_of_a_standby_is_counted(image: Place) -> None:
    primary = Node("ha-0").leading()
    Node("ha-1", port=5433).following(primary)
    (first,) = primary.sql.replication()
    assert (first.name, first.state, first.sync_state) == ("ha-1", "streaming", "async")
    assert first.flush is not None and first.flush <= primary.sql.flush_lsn()

    def two_more() -> bool:
        (now,) = primary.sql.replication()
        assert now.pid == first.pid
        return now.replies >= first.replies + 2

    eventually("two replies more", two_more)
    (receiver,) = [s for s in primary.server.walsenders() if "streaming" in s]
    assert receiver
    (before,) = primary.sql.replication()
    standby_receiver = Node("ha-1", port=5433)  # the same title, seen by its own server only
    assert standby_receiver.server.receiver() is None
    age = before.reply_age
    assert age is not None and age >= 0, "the age is this machine's, never a difference of clocks"


@one_version
def test_synchronous_names_are_set_and_seen(image: Place) -> None:
    node = Node("ha-0").leading()
    assert node.sql.sync_names() == ""
    wanted = 'ANY 1 ("ha-1","it\'s ""quoted""")'
    node.server.set_sync_names(wanted)
    assert node.server.sync_names() == wanted
    eventually("the names are active", lambda: node.sql.sync_names() == wanted)
    assert node.sql.alive(5.0) is Alive.ALIVE, "the probe waits for no standby"


@one_version
def test_an_alter_system_of_the_names_is_seen_and_undone(image: Place) -> None:
    node = Node("ha-0").leading()
    node.server.set_sync_names('ANY 1 ("ha-1")')
    with node.connect() as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        connection.execute("SELECT pg_reload_conf()")
    eventually("the user's value is active", lambda: node.sql.sync_names() == "")
    assert node.server.sync_names() == "", "what the files say, not what was once written"
    node.server.set_sync_names('ANY 1 ("ha-1")')
    eventually("the agent's is again", lambda: node.sql.sync_names() == 'ANY 1 ("ha-1")')


@one_version
def test_too_many_clients_are_life(image: Place) -> None:
    node = Node("ha-0", max_connections="7").leading()
    clients = [node.connect() for _ in range(7)]
    assert node.sql.alive(5.0) is Alive.BUSY_OR_REFUSING
    with pytest.raises(SqlError, match="too many clients"):
        node.sql.sync_names()
    clients[0].close()
    eventually("a place is free", lambda: node.sql.alive(5.0) is Alive.ALIVE)


@one_version
def test_a_database_that_was_dropped_is_not_missed(image: Place) -> None:
    node = Node("ha-0").leading()
    with node.connect(dbname="template1") as connection:
        connection.execute("DROP DATABASE postgres")
    assert node.sql.alive(5.0) is Alive.ALIVE and node.sql.timeline(5.0) == 2
    with node.connect(dbname="template1") as connection:
        connection.execute("CREATE DATABASE postgres")
        connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false")
    assert Node("ha-0").sql.timeline(5.0) == 2


def test_a_promotion_is_proven_on_disk_while_clients_keep_every_session_out(image: Place) -> None:
    """Sessions of a hot standby survive its promotion."""
    node = Node("ha-0", hot=True).filled().started()
    member = Member(node.directory)
    assert node.server.detach(5.0)
    member.look()
    member.read_end(20.0)
    assert member.promoted_to() == 0
    clients: list[psycopg.Connection[object]] = []
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        while True:
            clients.append(node.connect())
    node.promoted()
    assert node.sql.timeline(5.0) is None
    assert member.promoted_to() == 2
    clients.pop().close()
    eventually("a place is free", lambda: node.sql.timeline(5.0) == 2)
    node.sql.checkpoint(20.0)
    assert member.promoted_to() == 2
    node.crash()
    node.started()
    assert member.promoted_to() == 0, "a standby again"


@one_version
def test_a_read_only_default_is_no_illness(image: Place) -> None:
    node = Node("ha-0", default_transaction_read_only="on", lc_messages="C").leading()
    assert node.show("default_transaction_read_only") == "on"
    assert node.sql.alive(5.0) is Alive.ALIVE
    node.sql.setup_roles(USERNAME, PASSWORD, REPLICATION_PASSWORD, None)


@one_version
def test_a_server_that_recovers_or_refuses_is_alive(image: Place) -> None:
    warm = Node("ha-0").filled().started()
    assert warm.sql.alive(5.0) is Alive.BUSY_OR_REFUSING
    assert warm.sql.timeline(5.0) is None
    hot = Node("ha-1", port=5433, hot=True).filled().started()
    assert hot.sql.alive(5.0) is Alive.BUSY_OR_REFUSING, "a read-only server answers"


def test_a_postmaster_that_is_stopped_is_silent_in_time(image: Place) -> None:
    node = Node("ha-0").leading()
    with halted(postmaster(node)), ends_in_time():
        assert node.sql.alive(SOON) is Alive.SILENT
    with halted(postmaster(node)), ends_in_time():
        assert node.sql.look(SOON).alive is Alive.SILENT
    eventually("it answers again", lambda: node.sql.alive(5.0) is Alive.ALIVE)


@one_version
def test_a_backend_that_is_stopped_holds_nobody(image: Place) -> None:
    node = Node("ha-0").leading()
    where = {"host": str(node.run), "port": "5432", "user": USERNAME, "dbname": "postgres"}
    with ends_in_time(), pytest.raises(WireError) as caught, connected(where, SOON) as wire:
        backend = int(str(wire.ask("SELECT pg_backend_pid()")[0][0]))
        os.kill(backend, signal.SIGSTOP)
        try:
            wire.ask("SELECT 1")
        finally:
            os.kill(backend, signal.SIGCONT)
    assert caught.value.kind == "silent"


@one_version
def test_a_statement_that_waits_ends_in_time(image: Place) -> None:
    node = Node("ha-0").leading()
    checkpointer = next(p for p in processes.everybody() if "checkpointer" in processes.title(p))
    with halted(checkpointer), ends_in_time(), pytest.raises(SqlError):
        node.sql.checkpoint(SOON)
    node.sql.checkpoint(20.0)


@one_version
def test_nobody_who_listens_is_silence(image: Place) -> None:
    node = Node("ha-0").leading()
    node.crash()
    with ends_in_time():
        assert node.sql.alive(SOON) is Alive.SILENT
    with ends_in_time(), pytest.raises(SqlError):
        node.sql.flush_lsn()


@one_version
def test_a_killed_backend_is_silence_not_a_refusal(image: Place) -> None:
    node = Node("ha-0").leading()
    where = {"host": str(node.run), "port": "5432", "user": USERNAME, "dbname": "postgres"}
    with pytest.raises(WireError) as caught, connected(where, 10.0) as wire:
        os.kill(int(str(wire.ask("SELECT pg_backend_pid()")[0][0])), signal.SIGKILL)
        wire.ask("SELECT pg_sleep(5)")
    assert caught.value.kind == "gone"


@one_version
def test_a_full_disk_is_not_an_io_error(image: Place) -> None:
    node = Node("ha-0", base=SMALL / "ha-0").leading()
    with node.connect() as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("CREATE UNLOGGED TABLE filling (t text)")
        connection.execute("ALTER TABLE filling ALTER t SET STORAGE EXTERNAL")
        with pytest.raises(psycopg.errors.DiskFull):
            connection.execute(
                "INSERT INTO filling SELECT repeat('x', 100000) FROM generate_series(1, 10000)"
            )
        ballast = os.open(SMALL / "ballast", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError):
            while True:
                os.write(ballast, b"x" * 4096)
        for _ in range(3):
            assert node.sql.alive(5.0) in (Alive.ALIVE, Alive.BUSY_OR_REFUSING)
        assert node.server.poll() is ServerState.PRIMARY


def test_roles_and_database_are_as_declared_and_secrets_stay_secret(image: Place) -> None:
    node = Node(
        "ha-0", log_statement="all", log_min_duration_statement="0", log_connections="on"
    ).leading()
    node.sql.setup_roles(USERNAME, "another secret", REPLICATION_PASSWORD, "app")
    node.sql.setup_roles("it's", "another secret", REPLICATION_PASSWORD, 'da"ta')
    node.sql.setup_roles("it's", "third secret", REPLICATION_PASSWORD, 'da"ta')
    assert node.ask("SELECT count(*) FROM pg_database WHERE datname IN ('app', 'da\"ta')") == 2
    assert node.ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'it''s'") is True
    kept = node.ask("SELECT string_agg(rolpassword, ' ') FROM pg_authid WHERE rolcanlogin")
    assert kept.count("SCRAM-SHA-256$") == 3
    with psycopg.connect(
        host=ADDRESS, user="it's", password="third secret", dbname='da"ta', connect_timeout=5
    ) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    log = LOG.read_text()
    assert "SELECT 1" in log, "statements are logged here"
    for secret in ("SCRAM-SHA-256$", "another secret", "third secret", REPLICATION_PASSWORD):
        assert secret not in log


def test_lsn_text_is_postgresqls(image: Place) -> None:
    node = Node("ha-0").leading()
    for value in ("0/0", "0/1", "1/0", "FFFFFFFF/FFFFFFFF", "A/BC012"):
        assert node.ask(f"SELECT '{value}'::pg_lsn - '0/0'::pg_lsn") == int(LSN.parse(value))
