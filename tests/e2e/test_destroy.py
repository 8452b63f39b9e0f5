"""How a stack ends: Halt keeps claims and Secrets and is taken up again, WipeOut leaves nothing.

One member is enough: what is kept is the program's and Kubernetes' business, not the agents'.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.cluster import Lab
from lab.images import versions
from tests.support.deployed import bring_up
from tests.support.kube import CLAIMS, LEASES, STATEFUL_SETS, Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import Cluster
from tests.support.program import Program
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-destroy"
NAME = "ended"
KINDS = ("pods", "services", "secrets", "configmaps", CLAIMS, LEASES, STATEFUL_SETS)


@pytest.fixture(scope="module")
def namespace(kube: Kube) -> Iterator[str]:
    yield make_namespace(kube, NAMESPACE)
    drop_namespace(kube, NAMESPACE)


def left(kube: Kube, namespace: str) -> set[str]:
    """kind/name of all that belongs to the cluster and is not on its way out."""
    return {
        f"{kind.rpartition('/')[2]}/{found['metadata']['name']}"
        for kind in KINDS
        for found in kube.list(kube.path(namespace, kind))
        if NAME in found["metadata"]["name"] and "deletionTimestamp" not in found["metadata"]
    }


def test_halt_keeps_the_data_and_wipe_out_leaves_nothing(
    lab: Lab, kube: Kube, program: Program, namespace: str
) -> None:
    stack = program.stack(
        NAME,
        {
            "namespace": namespace,
            "version": versions()["17"],
            "replicas": 1,
            "storage": {"resources": {"requests": {"storage": "512Mi"}}},
        },
    )
    cluster = Cluster(lab, kube, namespace, NAME)
    bring_up([(stack, cluster)])
    cluster.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS n")
    password = cluster.secret()["POSTGRES_PASSWORD"]
    ca = stack.outputs()["caCertificate"]

    stack.destroy()
    kept = {
        f"persistentvolumeclaims/data-{NAME}-0", f"secrets/{NAME}-auth", f"secrets/{NAME}-members",
        f"secrets/{NAME}-tls",
    }  # fmt: skip
    until("nothing but the claim and the Secrets", lambda: left(kube, namespace) == kept, 60)

    bring_up([(stack, cluster)])
    assert cluster.secret()["POSTGRES_PASSWORD"] == password
    assert ca in stack.outputs()["caCertificate"], "clients go on trusting"
    assert cluster.sql("SELECT count(*) FROM kept") == [(100,)]

    stack.set(deletionPolicy="DoNotTerminate")
    stack.up()
    refused = stack.pulumi("destroy", "--yes", "--skip-preview")
    assert refused.status != 0
    assert cluster.sql("SELECT count(*) FROM kept") == [(100,)]

    stack.set(deletionPolicy="WipeOut")
    stack.up()
    stack.destroy()
    until("nothing at all", lambda: left(kube, namespace) == set(), 60)
