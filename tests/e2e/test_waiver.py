"""More voters lost for ever than the quorum can miss: everything refuses until a person decides.

The disks of the primary and of one standby are lost at the same moment, in Synchronous mode. The
steps are those of docs/runbook.md, "All that is left refuses".
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterator

import pytest

from lab.cluster import Lab
from tests.chaos.harm.processes import AGENT, container
from tests.chaos.harm.storage import volume
from tests.support.deployed import Deployed, bring_up, small
from tests.support.kube import Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import FETCHING, Cluster, Pod
from tests.support.program import Program
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-waiver"
NAME = "waived"
ROWS = 50


@pytest.fixture(scope="module")
def deployed(lab: Lab, kube: Kube, program: Program) -> Iterator[Deployed]:
    make_namespace(kube, NAMESPACE)
    config = small(NAMESPACE, replicas=3, standbyMode="Hot", streamingMode="Synchronous")
    (made,) = bring_up([(program.stack(NAME, config), Cluster(lab, kube, NAMESPACE, NAME))])
    yield made
    drop_namespace(kube, NAMESPACE)


def lose_the_disks(cluster: Cluster, pods: list[Pod]) -> None:
    """Of all of them at one moment: frozen meanwhile, so that none hears of the others' loss."""
    with contextlib.ExitStack() as frozen:
        for pod in pods:
            frozen.enter_context(container(cluster, pod).frozen())
        for pod in pods:
            for path in volume(cluster, pod).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            container(cluster, pod).signal(signal.SIGKILL, AGENT, first=True)


def last_promotion(cluster: Cluster) -> int:
    """Its term."""
    lease = cluster.lease()
    assert lease
    return int(json.loads(lease["metadata"]["annotations"]["pgha.dev/record"])["promotion"]["term"])


def test_a_quorum_that_is_lost_is_waived_by_a_person_alone(deployed: Deployed) -> None:
    cluster = deployed.cluster
    deployed.healthy()
    until("a quorum", lambda: "quorum" in cluster.streaming().values(), 60, 0.3, FETCHING)
    cluster.sql("CREATE TABLE kept AS SELECT generate_series(1, %s) AS n", ROWS)
    last = cluster.sql("SELECT pg_current_wal_flush_lsn()")[0][0]
    everywhere = "SELECT min(flush_lsn) >= %s::pg_lsn FROM pg_stat_replication"
    until("both standbys to have it", lambda: cluster.sql(everywhere, last)[0][0], 20)
    survivor, other = cluster.replicas()
    term = last_promotion(cluster)
    lose_the_disks(cluster, [cluster.primary(), other])

    def waive(*arguments: str, term: int = term) -> tuple[int, str]:
        answer = cluster.pgha(
            "waive-quorum", "--member", survivor.name, "--term", str(term), *arguments,
            pod=survivor.name,
        )  # fmt: skip
        return answer.returncode, answer.stdout + answer.stderr

    def refuses() -> bool:
        said = cluster.pgha("why", "--member", survivor.name, pod=survivor.name).stdout
        assert "quorum-missing" in said, said
        return True

    # It takes the lease, asks, and gives it back, again and again.
    until("the survivor's refusal", refuses, 60)
    for asked, why in (
        (waive(), "say --accept-data-loss"),
        (waive("--accept-data-loss", term=term + 1), "is not the term"),
    ):
        assert asked[0] == 1 and why in asked[1], asked
    until("the survivor's refusal once more", refuses, 60)
    status, said = waive("--accept-data-loss")
    assert status == 0, said
    assert f"primary   {survivor.name}" in said
    assert "given up" in said
    deployed.healthy()
    assert cluster.sql("SELECT count(*) FROM kept") == [(ROWS,)]
    assert "waived    term" in cluster.pgha("status").stdout
    events = cluster.kubectl("get", "events", "-o", "name", "--field-selector=reason=QuorumWaived")
    assert events.stdout.strip(), events.stderr
