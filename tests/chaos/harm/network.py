"""Harm to links: a node, the API for one pod, members from each other, one way or both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lab.faults import Direction
from lab.requirements import LabError
from tests.chaos.harm.processes import Harm, container
from tests.support.postgres import Cluster, Pod


@contextlib.contextmanager
def node_cut(cluster: Cluster, primary: Pod) -> Iterator[None]:
    number = int(primary.node.rpartition("node")[2])
    cluster.lab.cut_node(number)
    try:
        yield
    finally:
        cluster.lab.mend_node(number)


@contextlib.contextmanager
def api_cut(cluster: Cluster, primary: Pod) -> Iterator[None]:
    target = container(cluster, primary)
    cluster.lab.faults.cut_pod_api(target)
    try:
        yield
    finally:
        with contextlib.suppress(LabError):  # the cut has gone with the pod
            cluster.lab.faults.mend_pod(target)


@contextlib.contextmanager
def replication_cut(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """The standbys cannot reach the primary's server; everything else can."""
    targets = [container(cluster, pod) for pod in cluster.replicas()]
    for target in targets:
        cluster.lab.faults.cut_pod_peer(target, primary.address, "both", 5432)
    try:
        yield
    finally:
        for target in targets:
            with contextlib.suppress(Exception):
                cluster.lab.faults.mend_pod(target)


def members_cut(direction: Direction) -> Harm:
    """The primary's pod sees no other member, but clients and the API as ever; or, one way, it
    is not heard by them, or does not hear them."""

    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        target = container(cluster, primary)
        for pod in cluster.replicas():
            cluster.lab.faults.cut_pod_peer(target, pod.address, direction)
        try:
            yield
        finally:
            cluster.lab.faults.mend_pod(target)

    return harm
