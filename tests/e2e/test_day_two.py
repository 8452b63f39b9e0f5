"""Day-two operations on PostgreSQL 17: scale, change the mode, parameters, switch over, scrape.

One stack for all; every test begins with full redundancy and makes no assumption on who is
primary or in which mode the standbys are.
"""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from lab.cluster import Lab
from tests.chaos.harm.processes import AGENT
from tests.support.deployed import Deployed, bring_up, small
from tests.support.kube import CLAIMS, Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import Cluster
from tests.support.program import Program
from tests.support.prometheus import running_prometheus
from tests.support.waiting import until
from tests.support.writing import Writer

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-day-two"
NAME = "day-two"


@pytest.fixture(scope="module")
def day_two(lab: Lab, kube: Kube, program: Program) -> Iterator[Deployed]:
    make_namespace(kube, NAMESPACE)
    config = small(NAMESPACE, replicas=3, monitor="prometheus.io/builtin")
    stack = program.stack(NAME, config)
    (deployed,) = bring_up([(stack, Cluster(lab, kube, NAMESPACE, NAME))])
    yield deployed
    drop_namespace(kube, NAMESPACE)


@pytest.fixture()
def cluster(day_two: Deployed) -> Cluster:
    day_two.healthy()
    return day_two.cluster


def test_a_switchover_moves_the_primary_and_loses_nothing(
    day_two: Deployed, cluster: Cluster
) -> None:
    old = cluster.primary()
    target = cluster.replicas()[0].name
    with Writer(cluster) as writer:
        answer = cluster.pgha("switchover", "--to", target)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert f"primary   {target} (was {old.name})" in answer.stdout
        until("the label on it", lambda: cluster.primary().name == target, 10, 0.1)
        writer.wait_for_more(20)
    day_two.healthy()
    assert writer.missing() == []
    assert cluster.pod(old.name).uid == old.uid, "a switchover replaces no pod"


def test_a_switchover_to_a_stranger_is_refused(cluster: Cluster) -> None:
    answer = cluster.pgha("switchover", "--to", f"{NAME}-7")
    assert answer.returncode == 1
    assert "is not a voter" in answer.stderr
    said = [line for line in answer.stderr.splitlines() if line.startswith("pgha: ")]
    assert len(said) == 1, "one sentence"


def test_status_and_why_say_who_is_who(cluster: Cluster) -> None:
    primary = cluster.primary().name
    status = cluster.pgha("status")
    assert status.returncode == 0
    assert f"primary   {primary}" in status.stdout
    why = cluster.pgha("why").stdout.splitlines()
    assert len(why) == len(cluster.pods())
    assert f"{primary}: primary: This member is the primary and all is well." in why


def test_scaling_up_clones_and_scaling_down_hands_over(
    day_two: Deployed, cluster: Cluster
) -> None:
    stack = day_two.stack
    cluster.sql("CREATE TABLE IF NOT EXISTS scaled AS SELECT generate_series(1, 300) AS n")
    with Writer(cluster) as writer:
        stack.set(replicas=5)
        stack.up()
        day_two.healthy()
        # The primary moves to where the scale-down takes its pod away.
        last = f"{NAME}-4"
        if cluster.primary().name != last:
            moved = cluster.pgha("switchover", "--to", last)
            assert moved.returncode == 0, moved.stdout + moved.stderr
        stack.set(replicas=2)
        stack.up()
        day_two.healthy()
        assert cluster.primary().name in (f"{NAME}-0", f"{NAME}-1")
        writer.wait_for_more(20)
    assert writer.missing() == []
    assert cluster.sql("SELECT count(*) FROM scaled") == [(300,)]

    def slots() -> set[str]:
        return {name for (name,) in cluster.sql("SELECT slot_name FROM pg_replication_slots")}

    until("one slot, for the other member", lambda: len(slots()) == 1, 30)
    stack.set(replicas=3)
    stack.up()
    day_two.healthy()


def test_a_change_of_mode_restarts_standbys_and_keeps_the_data(
    day_two: Deployed, cluster: Cluster
) -> None:
    cluster.sql("CREATE TABLE IF NOT EXISTS moded AS SELECT generate_series(1, 200) AS n")
    day_two.stack.set(standbyMode="Hot")
    day_two.stack.up()
    day_two.healthy()
    for standby in cluster.replicas():
        assert cluster.sql("SELECT pg_is_in_recovery()", host=standby.address) == [(True,)]
    assert cluster.sql("SELECT count(*) FROM moded") == [(200,)]
    assert "dsnStandby" in day_two.stack.outputs()
    day_two.stack.set(standbyMode="Warm")
    day_two.stack.up()
    day_two.healthy()
    with pytest.raises(psycopg.OperationalError, match="not accepting connections"):
        cluster.connect(cluster.replicas()[0].address)
    assert cluster.sql("SELECT count(*) FROM moded") == [(200,)]


def test_changed_parameters_take_effect_everywhere(day_two: Deployed, cluster: Cluster) -> None:
    changed = {"work_mem": "7MB", "max_connections": "150"}
    with Writer(cluster) as writer:
        day_two.stack.set(parameters=changed)
        day_two.stack.up()
        day_two.healthy()
        writer.wait_for_more(5)
    shown = {name: cluster.show(name) for name in changed}
    assert shown == changed
    assert writer.missing() == []


def test_a_failover_during_pulumi_up_and_pulumi_up_during_a_failover(
    day_two: Deployed, cluster: Cluster
) -> None:
    """A change that restarts every member, while the primary's container is killed."""

    def uids() -> set[str]:
        return {pod.uid for pod in cluster.pods().values()}

    def kill_the_primary() -> None:
        primary = cluster.lab.container(cluster.primary().name, NAMESPACE, "postgres")
        assert primary.signal(signal.SIGKILL, AGENT, first=True)

    with Writer(cluster) as writer, ThreadPoolExecutor(1) as aside:
        before = uids()
        day_two.stack.set(parameters={"max_connections": "160"})
        changing = aside.submit(day_two.stack.up)
        until("the first pod that is made anew", lambda: uids() - before, 120, 0.2)
        kill_the_primary()
        changing.result()
        day_two.healthy()
        assert cluster.show("max_connections") == "160"
        writer.wait_for_more(5)
        day_two.stack.set(parameters={"max_connections": "170"})
        kill_the_primary()
        day_two.stack.up()
        day_two.healthy()
        assert cluster.show("max_connections") == "170"
        writer.wait_for_more(5)
    assert writer.missing() == []
    assert day_two.stack.drift() == ""


def test_a_synchronous_cluster_waits_for_a_standby(day_two: Deployed, cluster: Cluster) -> None:
    day_two.stack.set(streamingMode="Synchronous")
    day_two.stack.up()
    day_two.healthy()

    def quorum() -> bool:
        expected = {pod.name: "quorum" for pod in cluster.replicas()}
        assert cluster.streaming() == expected
        return True

    until("both standbys as a quorum", quorum, 30)
    assert cluster.show("synchronous_standby_names").startswith("ANY 1 (")
    with Writer(cluster) as writer:
        old = cluster.primary()
        cluster.kube.delete(cluster.path("pods", old.name))
        until("another primary", lambda: cluster.primary().uid != old.uid, 60)
        writer.wait_for_more(20)
    day_two.healthy()
    assert writer.missing() == []
    day_two.stack.set(streamingMode="Asynchronous")
    day_two.stack.up()
    day_two.healthy()
    until(
        "nobody to wait for", lambda: cluster.show("synchronous_standby_names") == "", 30
    )


def test_a_claim_grows_where_the_class_allows_it(day_two: Deployed, cluster: Cluster) -> None:
    day_two.stack.set(storage={"resources": {"requests": {"storage": "1536Mi"}}})
    day_two.stack.up()
    day_two.healthy()

    def sizes() -> set[str]:
        found = cluster.kube.list(cluster.path(CLAIMS))
        return {
            claim["spec"]["resources"]["requests"]["storage"]
            for claim in found
            if claim["metadata"]["name"] in {f"data-{pod}" for pod in cluster.pods()}
        }

    assert sizes() == {"1536Mi"}
    assert day_two.stack.drift() == ""
    day_two.stack.set(storage={"resources": {"requests": {"storage": "1Gi"}}})
    refused = day_two.stack.try_up()
    assert refused.status != 0
    assert "a claim cannot shrink" in refused.text
    day_two.stack.set(storage={"resources": {"requests": {"storage": "1536Mi"}}})


def test_the_outputs_open_the_database(day_two: Deployed, cluster: Cluster) -> None:
    shown = day_two.stack.outputs()
    assert shown["primaryService"] == f"{NAME}.{NAMESPACE}.svc"
    assert shown["dsnWrite"] == shown["dsnService"] == "[secret]"
    revealed = day_two.stack.outputs(secrets=True)
    # The DSN's host is a name of the cluster's DNS, so it is tried by its address from here.
    with psycopg.connect(revealed["dsnService"], hostaddr=cluster.service_address()) as session:
        assert session.execute("SELECT pg_is_in_recovery()").fetchall() == [(False,)]
    hosts = {f"{NAME}-{n}.{NAME}-pods.{NAMESPACE}.svc" for n in range(day_two.members)}
    assert all(host in revealed["dsnWrite"] for host in hosts)
    assert "target_session_attrs=read-write" in revealed["dsnWrite"]
    password = cluster.secret()["POSTGRES_PASSWORD"]
    state = day_two.stack.pulumi("stack", "export").text
    assert password not in state, "the password is encrypted in the state"


def test_a_real_prometheus_scrapes_every_member(
    day_two: Deployed, cluster: Cluster, tmp_path: Path
) -> None:
    pods = cluster.kube.list(cluster.path("pods"))
    with running_prometheus(cluster.lab, pods, tmp_path) as query:

        def scraped() -> bool:
            up = query('up{job="pods"}')
            assert len(up) == day_two.members, up
            assert {value for _, value in up} == {"1"}, up
            primaries = query('pgha_role{role="primary"} == 1')
            assert [labels["member"] for labels, _ in primaries] == [cluster.primary().name]
            assert len(query("pgha_timeline")) == day_two.members
            assert len(query("pgha_lease_seconds_left > 0")) == 1
            assert query("pgha_decisions_total")
            assert query("pgha_failovers_total")
            return True

        until("Prometheus with every member's metrics", scraped, 60, 1.0, (OSError,))


def test_the_http_port_shows_nothing_private(cluster: Cluster) -> None:
    secrets = [*cluster.secret().values()][1:] + [
        cluster.secret(f"{NAME}-members")["replicationPassword"]
    ]
    for pod in cluster.pods().values():
        for path in ("/metrics", "/readyz", "/livez"):
            with urllib.request.urlopen(f"http://{pod.address}:8008{path}", timeout=5) as answer:
                text = answer.read().decode()
            assert not [secret for secret in secrets if secret in text]


def test_secrets_are_in_no_log_event_title_or_annotation(cluster: Cluster) -> None:
    secrets = [
        cluster.secret()["POSTGRES_PASSWORD"],
        cluster.secret(f"{NAME}-members")["replicationPassword"],
        cluster.secret(f"{NAME}-members")["member.key"].splitlines()[1],
        cluster.secret(f"{NAME}-tls")["tls.key"].splitlines()[1],
    ]
    said = [cluster.kubectl("get", "events", "-o", "json").stdout, json.dumps(cluster.lease())]
    for pod in cluster.pods():
        said.append(cluster.kubectl("logs", pod, "-c", "postgres").stdout)
        said.append(cluster.kubectl("get", "pod", pod, "-o", "yaml").stdout)
        container = cluster.lab.container(pod, NAMESPACE, "postgres")
        for process in container.processes():
            for file in ("cmdline", "environ"):
                path = f"/proc/{process.pid}/{file}"
                done = subprocess.run(["cat", path], capture_output=True, text=True)
                said.append(done.stdout)
    text = "\n".join(said)
    assert "agent-started" in text, "the logs were read"
    assert [n for n, secret in enumerate(secrets) if secret in text] == []


def test_the_agents_may_do_no_more_than_they_must(cluster: Cluster) -> None:
    """Each verb on each resource, with the cluster's own names and with a stranger's."""
    groups = {
        "": ("pods", "secrets", "configmaps", "services", "events", CLAIMS, "serviceaccounts"),
        "apps": ("statefulsets", "deployments"),
        "coordination.k8s.io": ("leases",),
        "rbac.authorization.k8s.io": ("roles", "rolebindings", "clusterroles"),
    }
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
    user = f"system:serviceaccount:{NAMESPACE}:{NAME}"
    granted = set()
    for group, resources in groups.items():
        for resource in resources:
            for verb in verbs:
                for name in (NAME, f"{NAME}-0", "stranger", ""):
                    attributes = {"namespace": NAMESPACE, "group": group, "resource": resource,
                                  "verb": verb, "name": name}  # fmt: skip
                    review = cluster.kube.create(
                        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                        {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                         "spec": {"user": user, "resourceAttributes": attributes,
                                  "groups": ["system:serviceaccounts"]}},
                    )  # fmt: skip
                    if review["status"]["allowed"]:
                        granted.add((verb, resource, name))
    own, any_name = {NAME}, {NAME, f"{NAME}-0", "stranger", ""}
    expected = {
        *((verb, "leases", name) for verb in "get list watch update patch".split() for name in own),
        *(("create", "leases", name) for name in any_name),
        *((verb, "pods", name) for verb in "get list watch".split() for name in any_name),
        ("patch", "pods", f"{NAME}-0"),
        *((verb, "statefulsets", name) for verb in "get list watch".split() for name in own),
        *((verb, "events", name) for verb in "create patch".split() for name in any_name),
    }
    assert granted == expected


def test_passwords_over_the_network_and_never_trust(cluster: Cluster) -> None:
    rules = cluster.sql(
        "SELECT type, auth_method FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number"
    )
    assert rules
    remote = {method for kind, method in rules if kind != "local"}
    assert remote <= {"scram-sha-256", "reject"}, remote
    stored = cluster.sql("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
    assert stored and all(verifier.startswith("SCRAM-SHA-256$") for (verifier,) in stored)
    own = cluster.secret(f"{NAME}-members")["replicationPassword"]
    with pytest.raises(psycopg.OperationalError, match="pg_hba.conf"):
        cluster.connect(user="pgha_replication", password=own, sslmode="disable")
