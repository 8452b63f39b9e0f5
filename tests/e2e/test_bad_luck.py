"""Bad luck with one running cluster of two: what goes wrong is survived, or refused and kept.

The Lease deleted, a foreign data directory, an image of another major version, a password that is
not the data's. The API server gone for a minute is in tests/chaos: it harms every cluster.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lab.cluster import Lab
from lab.images import versions
from tests.chaos.harm.network import api_cut
from tests.chaos.harm.processes import AGENT, POSTMASTER, container
from tests.chaos.harm.storage import volume
from tests.support.deployed import Deployed, bring_up, small
from tests.support.kube import LEASES, STATEFUL_SETS, Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import Cluster
from tests.support.program import Program
from tests.support.waiting import throughout, until
from tests.support.writing import Writer

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-bad-luck"
NAME = "unlucky"
SECRET = "my-own"
CLAIM = f"data-{NAME}-1"
MEMBERS_PORT = 8009
PGDATA = "/var/lib/postgresql/data/pgdata"


@pytest.fixture(scope="module")
def unlucky(lab: Lab, kube: Kube, program: Program) -> Iterator[Deployed]:
    """Two members of PostgreSQL 17 with a Secret of the user's own."""
    make_namespace(kube, NAMESPACE)
    set_password(kube, "first-password", create=True)
    config = small(NAMESPACE, replicas=2, standbyMode="Hot", authSecret={"name": SECRET})
    stack = program.stack(NAME, config)
    cluster = OwnSecret(lab, kube, NAMESPACE, NAME)
    (deployed,) = bring_up([(stack, cluster)])
    yield deployed
    drop_namespace(kube, NAMESPACE)


class OwnSecret(Cluster):
    """A cluster whose superuser is in the user's own Secret."""

    def secret(self, name: str = "") -> dict[str, str]:
        return super().secret(name or SECRET)


def set_password(kube: Kube, password: str, create: bool = False) -> None:
    data = {"POSTGRES_USER": "owner", "POSTGRES_PASSWORD": password}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    if create:
        kube.create(
            kube.path(NAMESPACE, "secrets"), {"metadata": {"name": SECRET}, "data": encoded}
        )
    else:
        kube.patch(kube.path(NAMESPACE, "secrets", SECRET), {"data": encoded})


@pytest.fixture()
def cluster(unlucky: Deployed) -> Cluster:
    unlucky.healthy()
    return unlucky.cluster


@contextlib.contextmanager
def member_away(cluster: Cluster, number: int) -> Iterator[None]:
    """Without the last member as long as the block runs; its claim stays."""
    path = cluster.path(STATEFUL_SETS, NAME)
    cluster.kube.patch(path, {"spec": {"replicas": number}})
    gone = f"{NAME}-{number}"
    until(f"{gone} to go", lambda: gone not in cluster.pods(), 90)
    try:
        yield
    finally:
        cluster.kube.patch(path, {"spec": {"replicas": number + 1}})


def run_in_claim(cluster: Cluster, claim: str, script: str) -> None:
    """Run a shell script as uid 999 in a pod that mounts the claim where a member does."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 999,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container: dict[str, Any] = {
        "name": "hand",
        "image": f"docker.io/library/postgres:{versions()['17']}",
        "command": ["sh", "-ec", script],
        "securityContext": security,
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
    path = cluster.path("pods", "hand")
    cluster.kube.create(cluster.path("pods"), {"metadata": {"name": "hand"}, "spec": spec})

    def done() -> bool:
        phase = (cluster.kube.get(path) or {})["status"]["phase"]
        assert phase == "Succeeded", f"{phase}: {cluster.kubectl('logs', 'hand').stdout}"
        return True

    try:
        until("the script in the claim", done, 60)
    finally:
        cluster.kube.delete(path, grace=0)
        until("the pod hand to go", lambda: cluster.kube.get(path) is None, 30)


def wait_for_a_renewal(cluster: Cluster) -> None:
    """From then on the lease lasts as long as it can."""

    def renewed() -> str:
        return str((cluster.lease() or {})["spec"]["renewTime"])

    before = renewed()
    until("a renewal", lambda: renewed() != before, 15, 0.1)


def test_the_superuser_is_the_one_of_the_users_secret(cluster: Cluster) -> None:
    assert cluster.sql("SELECT current_user, usesuper FROM pg_user WHERE usename = current_user"
                       ) == [("owner", True)]  # fmt: skip
    assert cluster.kube.get(cluster.path("secrets", f"{NAME}-auth")) is None


def test_a_password_that_is_not_the_datas_is_refused_until_the_next_promotion(
    unlucky: Deployed, cluster: Cluster
) -> None:
    """The Secret was changed behind the database's back: clients that use it are refused, by
    PostgreSQL itself; replication and failover, which use other credentials, go on, and the next
    promotion puts the Secret's password into force."""
    set_password(cluster.kube, "second-password")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        cluster.sql("SELECT 1")
    with cluster.connect(password="first-password") as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]

    # kubelet brings a changed Secret into the pods' volumes within its sync period.
    def arrived() -> bool:
        file = "/etc/pgha/auth/POSTGRES_PASSWORD"
        return all(
            cluster.kubectl("exec", pod, "-c", "postgres", "--", "cat", file).stdout
            == "second-password"
            for pod in cluster.pods()
        )

    until("the changed Secret in the pods", arrived, 150, 2.0)
    moved = cluster.pgha("switchover")
    assert moved.returncode == 0, moved.stderr
    unlucky.healthy()
    assert cluster.sql("SELECT current_user") == [("owner",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        cluster.connect(password="first-password")


def test_a_deleted_lease_is_made_again_and_nothing_is_lost(
    unlucky: Deployed, cluster: Cluster
) -> None:
    lease = cluster.lease()
    assert lease
    with Writer(cluster) as writer:
        cluster.kube.delete(cluster.path(LEASES, NAME))

        def made_again() -> bool:
            now = cluster.lease()
            assert now and now["metadata"]["uid"] != lease["metadata"]["uid"], "no new Lease"
            assert "pgha.dev/record" in now["metadata"].get("annotations", {})
            return bool(now["spec"].get("holderIdentity"))

        until("a new Lease with a holder and the record", made_again, 90)
        unlucky.healthy()
        writer.wait_for_more(10)
    assert writer.missing() == []
    assert unlucky.stack.pulumi("preview", "--refresh", "--expect-no-changes").status == 0


def test_a_primary_that_leaves_without_the_api_tells_the_members_that_it_has_ended(
    unlucky: Deployed, cluster: Cluster
) -> None:
    """By the lease, which was renewed a moment ago, another would wait for 15 s."""
    primary = cluster.primary()
    with Writer(cluster) as writer:
        wait_for_a_renewal(cluster)
        with api_cut(cluster, primary):
            struck = time.monotonic()
            cluster.kube.delete(cluster.path("pods", primary.name))
            until("another primary", lambda: cluster.primary().name != primary.name, 30, 0.1)
            writer.wait_for_more(1)
            assert time.monotonic() - struck < 10.0
        unlucky.healthy()
        writer.wait_for_more(10)
    assert writer.missing() == []


def test_the_new_pod_of_a_primary_that_is_gone_by_force_takes_its_lease_back(
    unlucky: Deployed, cluster: Cluster
) -> None:
    """Nobody gave the lease back. The lock on the volume shows that nothing of the former pod is
    left; without it the mark, and with it the lease, had to grow old."""
    unlucky.healthy()
    primary = cluster.primary()
    inside = container(cluster, primary)
    with Writer(cluster) as writer:
        wait_for_a_renewal(cluster)
        before, struck = cluster.holder(), time.monotonic()
        inside.signal(signal.SIGKILL, AGENT, first=True)
        cluster.kube.delete(cluster.path("pods", primary.name), grace=0)
        until("a new holder", lambda: cluster.holder() not in ("", before), 30, 0.1)
        assert cluster.holder().startswith(f"{primary.name}/{cluster.pod(primary.name).uid}/")
        writer.wait_for_more(1)
        assert time.monotonic() - struck < 14.0  # the others would wait for 15 s
        unlucky.healthy()
        writer.wait_for_more(10)
    assert writer.missing() == []


def test_a_directory_is_not_opened_while_a_process_of_another_pod_may_write_there(
    unlucky: Deployed, cluster: Cluster
) -> None:
    """However old the former pod's mark is: here the machine itself holds what it would hold."""
    unlucky.healthy()
    (standby,) = cluster.replicas()
    with contextlib.ExitStack() as until_freed:
        file = until_freed.enter_context((volume(cluster, standby) / "pgha" / ".lock").open("r+"))
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waiting = threading.Thread(target=fcntl.flock, args=(file, fcntl.LOCK_EX), daemon=True)
        waiting.start()
        cluster.kube.delete(cluster.path("pods", standby.name))
        waiting.join(60)
        assert not waiting.is_alive()

        def refused() -> bool:
            said = cluster.pgha("why", "--member", standby.name).stdout
            assert "still run on this node and use the volume" in said, said
            return True

        until("the refusal of the locked directory", refused, 60)
        # A lease duration and more: the mark would be old long before the end.
        throughout("the refusal", refused, 20, 2.0)
        waits = cluster.pod(standby.name)
        assert container(cluster, waits).processes(POSTMASTER) == []
        with pytest.raises(ConnectionRefusedError):  # what it voted would be another's to keep
            socket.create_connection((waits.address, MEMBERS_PORT), 5).close()
    unlucky.healthy()


def test_a_foreign_data_directory_is_refused_and_kept(
    unlucky: Deployed, cluster: Cluster
) -> None:
    """A claim with another cluster's data: not opened, not overwritten, and said."""
    other = f"{NAME}-1"
    if cluster.primary().name == other:
        cluster.pgha("switchover", "--to", f"{NAME}-0")
        unlucky.healthy()
    with member_away(cluster, 1):
        run_in_claim(
            cluster, CLAIM,
            f"mv {PGDATA} {PGDATA}.own; initdb -D {PGDATA} >/dev/null; echo theirs >{PGDATA}/whose",
        )  # fmt: skip

    def refused() -> bool:
        said = cluster.pgha("why", "--member", other).stdout
        assert "refused-directory" in said, said
        assert "system identifier" in said, said
        return True

    until("the refusal of the foreign directory", refused, 60)
    assert cluster.pod(other).ready is False
    kept = cluster.kubectl("exec", other, "-c", "postgres", "--", "cat", f"{PGDATA}/whose")
    assert kept.stdout.strip() == "theirs"
    assert cluster.wait_writable().name == f"{NAME}-0"
    # The remedy that the sentence names: the directory that belongs here comes back.
    with member_away(cluster, 1):
        run_in_claim(cluster, CLAIM, f"mv {PGDATA} {PGDATA}.foreign; mv {PGDATA}.own {PGDATA}")
    unlucky.healthy()


def test_data_of_another_major_version_is_refused_and_kept(
    unlucky: Deployed, cluster: Cluster
) -> None:
    other = f"{NAME}-1"
    if cluster.primary().name == other:
        cluster.pgha("switchover", "--to", f"{NAME}-0")
        unlucky.healthy()
    with member_away(cluster, 1):
        run_in_claim(
            cluster, CLAIM, f"cp {PGDATA}/PG_VERSION {PGDATA}/kept; echo 15 >{PGDATA}/PG_VERSION"
        )

    def refused() -> bool:
        said = cluster.pgha("why", "--member", other).stdout
        assert "is of PostgreSQL 15 and the image has 17" in said, said
        return True

    until("the refusal of the other major version", refused, 60)
    assert cluster.pod(other).ready is False
    with member_away(cluster, 1):
        run_in_claim(cluster, CLAIM, f"mv {PGDATA}/kept {PGDATA}/PG_VERSION")
    unlucky.healthy()


def test_a_change_of_the_major_version_is_refused_by_the_program(unlucky: Deployed) -> None:
    before = dict(unlucky.stack.config)
    unlucky.stack.set(version=versions()["18"])
    try:
        answer = unlucky.stack.try_up()
    finally:
        unlucky.stack.config = before
        unlucky.stack.write()
    assert answer.status != 0
    assert "the data is PostgreSQL 17's" in answer.text
    unlucky.healthy()
