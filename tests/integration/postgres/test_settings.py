"""Which settings win, who is let in, and that secrets stay where they belong."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from pgha.postgres import conf, processes
from pgha.postgres.conf import REPLICATION_USER, ConfError
from pgha.postgres.server import ServerState
from tests.integration.postgres.inside import LOG, Place
from tests.integration.postgres.nodes import (
    ADDRESS,
    PASSWORD,
    REPLICATION_PASSWORD,
    USERNAME,
    Node,
    eventually,
    one_version,
)

pytestmark = pytest.mark.integration


def enters(**where: object) -> bool:
    """May one come in over the network this way?"""
    try:
        psycopg.connect(
            **{"host": ADDRESS, "port": 5432, "dbname": "postgres", "connect_timeout": 5,
               "passfile": "/dev/null", **where}  # type: ignore[arg-type]
        ).close()
    except psycopg.OperationalError as e:
        assert "timeout" not in str(e)
        return False
    return True


def test_the_servers_settings_are_the_seeds_and_the_laws(image: Place) -> None:
    node = Node("ha-0").leading()
    expected = {
        "wal_level": "replica", "max_wal_senders": "99", "wal_keep_size": "512MB",
        "hot_standby": "off", "recovery_target_timeline": "latest", "fsync": "on",
        "full_page_writes": "on", "restart_after_crash": "off", "wal_log_hints": "on",
        "password_encryption": "scram-sha-256", "cluster_name": "ha-0",
        "synchronous_commit": "on", "archive_mode": "off", "data_checksums": "on",
        "max_slot_wal_keep_size": "512MB", "ssl": "on", "lc_messages": "",
    }  # fmt: skip
    assert {name: node.show(name) for name in expected} == expected


def test_the_users_parameters_win_where_they_may(image: Place) -> None:
    node = Node(
        "ha-0", work_mem="7MB", max_connections="33", search_path="it's, \"odd\"",
        fsync="off", wal_level="minimal", Hot_Standby="on", listen_addresses="",
        synchronous_standby_names="*", primary_conninfo="host=elsewhere",
    )  # fmt: skip
    node.leading()
    assert node.show("work_mem") == "7MB"
    assert node.show("max_connections") == "33"
    assert node.show("search_path") == "it's, \"odd\""
    assert node.show("fsync") == "on"
    assert node.show("wal_level") == "replica"
    assert node.show("hot_standby") == "off"
    assert node.show("listen_addresses") == "*"
    assert node.show("synchronous_standby_names") == ""
    assert node.show("primary_conninfo") == ""


@one_version
@pytest.mark.parametrize(
    "name", ["work mem", "x = 1\nfsync", "include", "include_dir", "", "a.b.c"]
)
def test_a_parameter_that_is_none_is_refused(image: Place, name: str) -> None:
    node = Node("ha-0").filled().with_conf(parameters={name: "on"})
    with pytest.raises(ConfError, match="parameters"):
        node.server.start(node.conf)
    assert node.server.poll() is ServerState.STOPPED


@one_version
def test_a_primary_archives_and_nobody_else(image: Place) -> None:
    """Law, point 13: of the user's `archive_mode`, `always` gives way."""
    archive = Path("/tmp/archive")
    archive.mkdir()
    node = Node("ha-0", archive_mode="on", archive_command=f"cp %p {archive}/%f")
    node.filled().started()
    assert node.server.poll() is ServerState.STANDBY
    assert not list(archive.iterdir())
    node.promoted()
    node.ask("SELECT pg_switch_wal()")
    eventually("a segment is archived", lambda: [f for f in archive.iterdir() if len(f.name) == 24])
    node.ask("ALTER SYSTEM SET archive_mode = 'always'")
    node.stopped().started().promoted()
    assert node.show("archive_mode") == "on"
    node.ask("ALTER SYSTEM SET archive_mode = 'off'")
    node.stopped().started().promoted()
    assert node.show("archive_mode") == "off"


def test_alter_system_does_not_reach_what_is_the_agents(image: Place) -> None:
    node = Node("ha-0", work_mem="7MB").leading()
    owned = {"fsync": "off", "full_page_writes": "off", "restart_after_crash": "on",
             "update_process_title": "off", "wal_receiver_status_interval": "50s",
             "hba_file": "/tmp/other", "listen_addresses": "", "hot_standby": "on"}  # fmt: skip
    before = {name: node.show(name) for name in owned}
    for name, value in owned.items():
        node.ask(f"ALTER SYSTEM SET {name} = '{value}'")
    node.ask("ALTER SYSTEM SET work_mem = '9MB'")
    node.ask("SELECT pg_reload_conf()")
    eventually("the user's is taken", lambda: node.show("work_mem") == "9MB")
    assert {name: node.show(name) for name in owned} == before
    node.stopped().started().promoted()
    assert {name: node.show(name) for name in owned} == before
    assert node.show("work_mem") == "9MB", "ALTER SYSTEM wins over the stack, as it always does"
    kept = (node.pgdata / "postgresql.auto.conf").read_text()
    assert "work_mem" in kept
    assert not [name for name in owned if name in kept]


@one_version
def test_alter_system_does_not_decide_whom_to_follow(image: Place) -> None:
    node = Node("ha-0").leading()
    node.ask("ALTER SYSTEM SET primary_conninfo = 'host=elsewhere'")
    node.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
    with (node.pgdata / "postgresql.auto.conf").open("a") as file:
        file.write("recovery_min_apply_delay '1h'\nPrimary_Slot_Name='x'\n")
    node.crash()
    node.with_conf(hot=True).started()
    for name in ("primary_conninfo", "primary_slot_name", "synchronous_standby_names"):
        assert node.show(name) == ""
    assert node.show("recovery_min_apply_delay") == "0"
    assert node.server.attached_to() is None


def test_over_the_network_a_password_always(image: Place) -> None:
    node = Node("ha-0").leading()
    replication = {"user": REPLICATION_USER, "password": REPLICATION_PASSWORD}
    assert enters(user=USERNAME, password=PASSWORD)
    assert enters(user=USERNAME, password=PASSWORD, sslmode="disable")
    assert enters(user=USERNAME, password=PASSWORD, dbname="app")
    assert not enters(user=USERNAME)
    assert not enters(user=USERNAME, password="wrong")
    assert not enters(user=REPLICATION_USER)
    assert enters(**replication, sslmode="require"), "for pg_rewind"
    assert enters(**replication, sslmode="require", replication="true")
    assert not enters(**replication, sslmode="disable")
    assert not enters(**replication, sslmode="disable", replication="true")
    assert not enters(**replication, sslmode="require", dbname="app")
    assert not enters(user=USERNAME, password=PASSWORD, sslmode="require", replication="true")
    assert not enters(user=REPLICATION_USER, password="wrong", sslmode="require",
                      replication="true")  # fmt: skip
    rules = node.ask(
        "SELECT string_agg(format('%s %s %s', type, auth_method, error), E'\n' "
        "ORDER BY line_number) FROM pg_hba_file_rules"
    ).splitlines()
    assert not [r for r in rules if r.startswith("host") and r.split()[1] not in
                ("scram-sha-256", "reject")]  # fmt: skip
    assert rules[0].split() == ["local", "trust"]


def test_no_secret_is_in_a_log_or_on_a_command_line(image: Place) -> None:
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433, hot=True).following(primary)
    standby.server.attach(ADDRESS, primary.port, "wrong: " + REPLICATION_PASSWORD, "ha-1", None)
    standby.server.attach(ADDRESS, 1, REPLICATION_PASSWORD, "ha-1", None)
    eventually("it fails", lambda: "Connection refused" in LOG.read_text())
    everybody = [processes.title(pid) for pid in processes.everybody()]
    assert [t for t in everybody if "walwriter" in t]
    said = LOG.read_text() + "\n".join(everybody)
    assert "primary_conninfo" in said, "it is logged when it changes"
    for secret in (REPLICATION_PASSWORD, conf.quoted(REPLICATION_PASSWORD)[1:-1], PASSWORD):
        assert secret not in said
    shown = standby.show("primary_conninfo")
    assert "passfile" in shown and "password" not in shown
    assert (standby.run / "pgpass").stat().st_mode & 0o777 == 0o600
