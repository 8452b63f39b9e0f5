"""Harm through the API: deletions, evictions, hands in the Lease and the labels."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator

from tests.chaos.harm.processes import Harm
from tests.support.kube import LEASES
from tests.support.postgres import ROLE, Cluster, Pod


def deleted(grace: int | None) -> Harm:
    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        cluster.kube.delete(cluster.path("pods", primary.name), grace)
        yield

    return harm


def all_deleted(grace: int | None) -> Harm:
    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        for pod in cluster.pods():
            cluster.kube.delete(cluster.path("pods", pod), grace)
        yield

    return harm


@contextlib.contextmanager
def drained(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """What `kubectl drain` does to the primary's node, and to this cluster's pod alone."""
    node = f"/api/v1/nodes/{primary.node}"
    cluster.kube.patch(node, {"spec": {"unschedulable": True}})
    try:
        cluster.kube.create(cluster.path("pods", f"{primary.name}/eviction"), {
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": primary.name, "namespace": cluster.namespace},
        })
        yield
    finally:
        cluster.kube.patch(node, {"spec": {"unschedulable": None}})


@contextlib.contextmanager
def lease_deleted(cluster: Cluster, primary: Pod) -> Iterator[None]:
    cluster.kube.delete(cluster.path(LEASES, cluster.name))
    yield


@contextlib.contextmanager
def lease_held_by_a_stranger(cluster: Cluster, primary: Pod) -> Iterator[None]:
    cluster.kube.patch(
        cluster.path(LEASES, cluster.name), {"spec": {"holderIdentity": "a/stranger/1"}}
    )
    yield


@contextlib.contextmanager
def labels_edited(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """By hand: the primary is called a replica, and a replica the primary."""
    replica = random.choice(cluster.replicas())
    for name, role in ((primary.name, "replica"), (replica.name, "primary")):
        body = {"metadata": {"labels": {ROLE: role}}}
        cluster.kube.patch(cluster.path("pods", name), body)
    yield


@contextlib.contextmanager
def switchover(cluster: Cluster, primary: Pod) -> Iterator[None]:
    done = cluster.pgha("switchover", pod=primary.name)
    assert done.returncode == 0 or "terminated" in done.stderr, json.dumps(
        [done.stdout, done.stderr]
    )
    yield
