"""Fixtures of the e2e layer: the seed's two stacks. Owns which namespace they live in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.cluster import Lab
from lab.images import versions
from tests.support.client import ClientPod, start_client
from tests.support.deployed import Deployed, bring_up, destroy_all
from tests.support.kube import CLAIMS, LEASES, STATEFUL_SETS, Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import Cluster
from tests.support.program import Program

NAMESPACE = "demo"


@dataclass
class Seed:
    """The seed's clusters, side by side."""

    warm: Deployed
    hot: Deployed
    client: ClientPod

    def __getitem__(self, which: str) -> Deployed:
        return {"warm": self.warm, "hot": self.hot}[which]


@pytest.fixture(scope="module")
def seed(lab: Lab, kube: Kube, program: Program) -> Iterator[Seed]:
    """Both stacks of the seed by their own stack files, in namespace `demo`.

    Where `make up` has put its demo there already, another namespace is used, and other names for
    the stacks, since a stack is one cluster: a test takes nothing from the user.
    """
    taken = kube.get(f"/api/v1/namespaces/{NAMESPACE}") is not None
    namespace = make_namespace(kube, f"{NAMESPACE}-e2e" if taken else NAMESPACE)
    pairs = []
    for name in ("ha-mssqlserver", "hot-mssqlserver"):
        called = f"{name}-e2e" if taken else name
        stack = program.seed_stack(name, called, namespace=namespace)
        pairs.append((stack, Cluster(lab, kube, namespace, name, database="mssqlserver")))
    client = start_client(lab, kube, namespace, f"docker.io/library/postgres:{versions()['17']}")
    warm, hot = bring_up(pairs)
    yield Seed(warm, hot, client)
    # The seed's own end: the policy becomes WipeOut, the clusters go, and nothing is left.
    for deployed in (warm, hot):
        deployed.stack.set(deletionPolicy="WipeOut")
        deployed.stack.up()
    destroy_all([warm, hot])
    left = [
        f"{kind} {found['metadata']['name']}"
        for kind in ("pods", "services", "secrets", "configmaps", CLAIMS, LEASES, STATEFUL_SETS)
        for found in kube.list(kube.path(namespace, kind))
        if found["metadata"]["name"].startswith(("ha-mssql", "hot-mssql", "data-h"))
        and "deletionTimestamp" not in found["metadata"]
    ]
    assert left == [], f"WipeOut left {left}"
    drop_namespace(kube, namespace)
