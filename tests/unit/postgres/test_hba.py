"""Who may come in: pg_hba.conf, and what members say when they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgha.postgres import conf
from pgha.settings import Settings

pytestmark = pytest.mark.unit

GIVEN = {"name": "ha", "namespace": "demo", "appName": "postgres", "version": "17"}


def first_match(text: str, tls: bool, database: str, user: str) -> str:
    """The method for a connection over the network (documentation, "The pg_hba.conf File")."""
    for line in text.splitlines():
        kind, databases, users, *_, method = line.split()
        kinds = ("host", "hostssl") if tls else ("host", "hostnossl")
        # `all` does not match replication.
        database_fits = databases == database or databases == "all" and database != "replication"
        if kind in kinds and database_fits and users in ("all", user):
            return method
    return "none"


@pytest.mark.parametrize("require", [False, True])
def test_members_come_in_by_tls_in_either_mode(require: bool) -> None:
    text, own = conf.hba(require), conf.REPLICATION_USER
    for database in ("replication", "postgres"):
        assert first_match(text, True, database, own) == "scram-sha-256"
        assert first_match(text, False, database, own) == "reject"
    assert first_match(text, True, "app", own) == "reject"
    assert first_match(text, True, "replication", "anybody") == "reject"
    assert text.splitlines()[0].split() == ["local", "all", "all", "trust"]


def test_require_lets_no_client_in_without_tls() -> None:
    prefer, require = conf.hba(False), conf.hba(True)
    assert first_match(prefer, True, "app", "anybody") == "scram-sha-256"
    assert first_match(prefer, False, "app", "anybody") == "scram-sha-256"
    assert first_match(require, True, "app", "anybody") == "scram-sha-256"
    assert first_match(require, False, "app", "anybody") == "none"
    assert first_match(require, False, "postgres", "postgres") == "none"


def test_the_files_follow_the_settings(tmp_path: Path) -> None:
    for mode, first in (("Require", "hostssl"), ("Prefer", "host")):
        required = Settings.parse({**GIVEN, "clientTLS": mode}).require_tls
        made = conf.ServerConf("ha-0", "postgres", 17, require_tls=required)
        conf.write(made, tmp_path)
        last = (tmp_path / "pg_hba.conf").read_text().splitlines()[-1]
        assert last.split() == [first, "all", "all", "all", "scram-sha-256"]
    assert not Settings.parse(GIVEN).require_tls, "settings of before there was the key"


def test_members_bind_the_password_to_the_tls_session(tmp_path: Path) -> None:
    said = conf.connection("ha-1.ha-pods.demo.svc", 5432, "ha-0", tmp_path)
    assert said["sslmode"] == "require"
    assert said["channel_binding"] == "require"
    assert "sslrootcert" not in said


def test_the_server_reads_one_file_for_both(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    own = conf.settings(conf.ServerConf("ha-0", "postgres", 17, certificate=pem), tmp_path, False)
    assert (own["ssl"], own["ssl_cert_file"], own["ssl_key_file"]) == ("on", str(pem), str(pem))
