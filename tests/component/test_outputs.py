"""What a stack tells its user."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import psycopg.conninfo
import pytest

from tests.component.declared import declare

pytestmark = pytest.mark.component


def test_addresses_and_commands() -> None:
    outputs = declare().outputs
    assert outputs["primaryService"] == "ha-mssqlserver.demo.svc"
    assert outputs["replicasService"] == "ha-mssqlserver-replicas.demo.svc"
    assert outputs["secretName"] == "ha-mssqlserver-auth"
    assert outputs["psqlCommand"].startswith(
        "kubectl exec -it -n demo svc/ha-mssqlserver -c postgres -- sh -c '"
    )
    assert "standbyService" not in outputs


def test_dsns_are_secret_and_nothing_else_holds_the_password() -> None:
    run = declare(standbyMode="Hot")
    assert run.secret_outputs == {"dsnWrite", "dsnRead", "dsnService", "dsnStandby"}
    password = urlsplit(run.outputs["dsnService"]).password
    assert password
    for key, value in run.outputs.items():
        assert (password in str(value)) == (key in run.secret_outputs), key


def test_writes_go_to_whichever_member_accepts_them() -> None:
    outputs = declare(replicas=2).outputs
    assert psycopg.conninfo.conninfo_to_dict(outputs["dsnWrite"]) == {
        "user": "mssqlserver",
        "password": urlsplit(outputs["dsnService"]).password,
        "dbname": "mssqlserver",
        "host": "ha-mssqlserver.demo.svc,"
        "ha-mssqlserver-0.ha-mssqlserver-pods.demo.svc,"
        "ha-mssqlserver-1.ha-mssqlserver-pods.demo.svc",
        "port": "5432,5432,5432",
        "target_session_attrs": "read-write",
        "connect_timeout": "2",
        "tcp_user_timeout": "5000",
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
    }


@pytest.mark.parametrize(("mode", "session"), [("Warm", "read-write"), ("Hot", "prefer-standby")])
def test_reads_go_where_reads_are_served(mode: str, session: str) -> None:
    query = parse_qs(urlsplit(declare(standbyMode=mode).outputs["dsnRead"]).query)
    assert query["target_session_attrs"] == [session]
