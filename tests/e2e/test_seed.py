"""The seed, line by line, on its own version 13.13: what it prints is what is asserted here.

Tests run in any order: each takes the clusters as it finds them, and those that move a primary
wait for full redundancy before they end.
"""

from __future__ import annotations

import psycopg
import pytest

from tests.e2e.conftest import Seed
from tests.support.kube import SLICES
from tests.support.postgres import FETCHING, Cluster
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

APP = "mssqlserveres.kubedb.com"
BOTH = pytest.mark.parametrize("which", ["warm", "hot"])


@BOTH
def test_three_pods_are_ready_with_the_labels_of_the_seed(seed: Seed, which: str) -> None:
    cluster = seed[which].cluster
    seed[which].healthy()
    printed = cluster.kubectl(
        "get", "pods", f"--selector=app.kubernetes.io/instance={cluster.name}",
        "--show-labels", "--no-headers",
    ).stdout.splitlines()  # fmt: skip
    assert len(printed) == 3, printed
    roles = []
    for ordinal, line in enumerate(printed):
        name, ready, status, *_, labels = line.split()
        assert (name, ready, status) == (f"{cluster.name}-{ordinal}", "1/1", "Running")
        found = dict(label.split("=", 1) for label in labels.split(","))
        roles.append(found.pop("kubedb.com/role"))
        assert found.pop("controller-revision-hash").startswith(f"{cluster.name}-")
        assert found.pop("apps.kubernetes.io/pod-index") == str(ordinal)
        assert found == {
            "app.kubernetes.io/name": APP,
            "app.kubernetes.io/instance": cluster.name,
            "statefulset.kubernetes.io/pod-name": name,
        }
    assert sorted(roles) == ["primary", "replica", "replica"]


@BOTH
def test_the_first_pod_was_the_first_primary(seed: Seed, which: str) -> None:
    first = seed[which].first_sight
    name = seed[which].cluster.name
    assert {pod.name: pod.role for pod in first.values()} == {
        f"{name}-0": "primary", f"{name}-1": "replica", f"{name}-2": "replica",
    }  # fmt: skip
    assert all(pod.ready for pod in first.values())


@BOTH
def test_two_services_with_the_selectors_of_the_seed(seed: Seed, which: str) -> None:
    cluster = seed[which].cluster
    selector = f"--selector=app.kubernetes.io/instance={cluster.name}"
    columns = "-o=custom-columns=NAME:.metadata.name,SELECTOR:.spec.selector"
    lines = cluster.kubectl("get", "svc", selector, columns).stdout.splitlines()[1:]
    found = dict(line.split(None, 1) for line in lines)
    own = f"app.kubernetes.io/instance:{cluster.name} app.kubernetes.io/name:{APP}"
    assert {name: text.strip() for name, text in found.items()} == {
        cluster.name: f"map[{own} kubedb.com/role:primary]",
        f"{cluster.name}-replicas": f"map[{own}]",
    }
    kinds = cluster.kubectl("get", "svc", selector, "--no-headers").stdout.splitlines()
    for line in kinds:
        _, kind, address, external, ports, _ = line.split()
        assert (kind, external, ports) == ("ClusterIP", "<none>", "5432/TCP"), line
        assert address.count(".") == 3


@BOTH
def test_the_secret_holds_user_and_password(seed: Seed, which: str) -> None:
    cluster = seed[which].cluster
    secret = cluster.secret(f"{cluster.name}-auth")
    assert set(secret) == {"POSTGRES_USER", "POSTGRES_PASSWORD"}
    assert secret["POSTGRES_USER"] == "mssqlserver"
    assert len(secret["POSTGRES_PASSWORD"]) == 16


@BOTH
def test_a_pod_connects_by_the_name_of_the_service(seed: Seed, which: str) -> None:
    cluster = seed[which].cluster
    login = cluster.secret()
    url = (
        f"postgresql://{login['POSTGRES_USER']}:{login['POSTGRES_PASSWORD']}"
        f"@{cluster.name}.{cluster.namespace}:5432/mssqlserver?connect_timeout=5"
    )
    answer = seed.client.psql(url, "SELECT current_user, pg_is_in_recovery()")
    assert answer.stdout.strip() == "mssqlserver|f", answer.stderr


@BOTH
def test_the_pod_address_leads_to_the_primary_too(seed: Seed, which: str) -> None:
    cluster = seed[which].cluster
    assert cluster.sql("SELECT 1", host=cluster.primary().address) == [(1,)]


@BOTH
def test_a_wrong_password_is_refused(seed: Seed, which: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        seed[which].cluster.connect(password="not-it")


@BOTH
def test_both_standbys_stream_asynchronously(seed: Seed, which: str) -> None:
    cluster = seed[which].cluster
    seed[which].healthy()
    rows = cluster.sql("SELECT application_name, state, sync_state FROM pg_stat_replication")
    standbys = sorted(pod.name for pod in cluster.replicas())
    assert sorted(rows) == [(name, "streaming", "async") for name in standbys]


@BOTH
def test_the_server_has_the_settings_of_the_seed(seed: Seed, which: str) -> None:
    cluster = seed[which].cluster
    shown = {
        name: cluster.show(name)
        for name in (
            "server_version", "wal_level", "max_wal_senders", "wal_keep_size", "hot_standby",
            "recovery_target_timeline", "primary_conninfo",
        )
    }  # fmt: skip
    assert shown.pop("server_version").split()[0] == "13.13"
    assert shown == {
        "wal_level": "replica",
        "max_wal_senders": "99",
        # From PostgreSQL 13 on this is the seed's wal_keep_segments = 32, of 16 MB each.
        "wal_keep_size": "512MB",
        "hot_standby": "off" if which == "warm" else "on",
        "recovery_target_timeline": "latest",
        # A primary follows nobody.
        "primary_conninfo": "",
    }


def test_a_hot_standby_follows_the_stable_name_of_the_primary(seed: Seed) -> None:
    cluster = seed.hot.cluster
    seed.hot.healthy()
    primary, standby = cluster.primary(), cluster.replicas()[0]
    found = cluster.show("primary_conninfo", host=standby.address)
    assert f"{primary.name}.{cluster.name}-pods.{cluster.namespace}" in found
    assert f"application_name='{standby.name}'" in found
    assert "password=" not in found


def test_a_warm_standby_refuses_with_the_words_of_postgresql(seed: Seed) -> None:
    seed.warm.healthy()
    for standby in seed.warm.cluster.replicas():
        with pytest.raises(psycopg.OperationalError, match="the database system is starting up"):
            seed.warm.cluster.connect(standby.address)


def test_a_hot_standby_is_read_only(seed: Seed) -> None:
    cluster = seed.hot.cluster
    seed.hot.healthy()
    standby = cluster.replicas()[0].address
    with pytest.raises(
        psycopg.errors.ReadOnlySqlTransaction,
        match="cannot execute CREATE DATABASE in a read-only transaction",
    ):
        cluster.sql("CREATE DATABASE standby", host=standby)
    ((received,),) = cluster.sql("SELECT pg_last_wal_receive_lsn()", host=standby)
    assert "/" in received, received


def test_the_replicas_service_answers_reads(seed: Seed) -> None:
    cluster = seed.hot.cluster
    cluster.sql("CREATE TABLE IF NOT EXISTS read_here (n int)")
    service = cluster.service_address(f"{cluster.name}-replicas")

    def answered() -> bool:
        return bool(cluster.sql("SELECT count(*) FROM read_here", host=service))

    assert until("an answer of NAME-replicas", answered, 20, passing=FETCHING)
    slices = cluster.kube.list(
        cluster.path(SLICES), labelSelector=f"kubernetes.io/service-name={cluster.name}-replicas"
    )
    addresses = {a for s in slices for e in s["endpoints"] for a in e["addresses"]}
    assert addresses == {pod.address for pod in cluster.pods().values()}, "all pods, as the seed"


def test_the_standby_service_answers_from_standbys_alone(seed: Seed) -> None:
    cluster = seed.hot.cluster
    seed.hot.healthy()
    service = cluster.service_address(f"{cluster.name}-standby")
    for _ in range(5):
        assert cluster.sql("SELECT pg_is_in_recovery()", host=service) == [(True,)]


@BOTH
def test_nothing_drifts_after_up(seed: Seed, which: str) -> None:
    assert seed[which].stack.drift() == ""


@BOTH
def test_another_pod_takes_over_when_the_primary_is_deleted(seed: Seed, which: str) -> None:
    deployed = seed[which]
    cluster = deployed.cluster
    deployed.healthy()
    cluster.sql("CREATE TABLE IF NOT EXISTS kept (n int)")
    cluster.sql("TRUNCATE kept")
    cluster.sql("INSERT INTO kept SELECT generate_series(1, 1000)")
    old = cluster.primary()

    cluster.kube.delete(cluster.path("pods", old.name))

    def taken_over() -> bool:
        new = cluster.primary()
        assert new.uid != old.uid, f"{new.name} is still the primary"
        cluster.sql("INSERT INTO kept VALUES (1001)")
        return True

    until("another primary that takes a write", taken_over, 60, 0.3, FETCHING)
    after = deployed.healthy()
    new = cluster.primary()
    assert new.name != old.name
    assert after[old.name].uid != old.uid and after[old.name].role == "replica"
    assert old.name in cluster.streaming()
    assert cluster.sql("SELECT count(DISTINCT n), min(n), max(n) FROM kept") == [(1001, 1, 1001)]
    _service_leads_to(cluster, new.address)


def _service_leads_to(cluster: Cluster, address: str) -> None:
    assert cluster.sql("SELECT pg_is_in_recovery(), host(inet_server_addr())") == [
        (False, address)
    ]


@BOTH
def test_nothing_drifts_after_a_failover(seed: Seed, which: str) -> None:
    """The labels, the Lease and the Service's endpoints are the agents': no drift for Pulumi."""
    deployed = seed[which]
    cluster = deployed.cluster
    deployed.healthy()
    old = cluster.primary()
    cluster.kube.delete(cluster.path("pods", old.name))
    until("another primary", lambda: cluster.primary().uid != old.uid, 60)
    deployed.healthy()
    assert deployed.stack.drift() == ""


def test_the_pods_run_under_pod_security_restricted(seed: Seed) -> None:
    cluster = seed.warm.cluster
    labels = cluster.kube.get(f"/api/v1/namespaces/{cluster.namespace}") or {}
    enforced = labels["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
    assert enforced == "restricted"
    identity = cluster.kubectl("exec", f"{cluster.name}-0", "-c", "postgres", "--", "id", "-u")
    assert identity.stdout.strip() == "999"
    refused = cluster.kubectl("exec", f"{cluster.name}-0", "-c", "postgres", "--", "touch", "/x")
    assert "Read-only file system" in refused.stderr
