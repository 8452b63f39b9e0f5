"""Stacks that are up, and the fixtures' way to bring several up side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lab.images import versions
from tests.support.postgres import Cluster, Pod
from tests.support.program import Stack


@dataclass
class Deployed:
    """A stack that is up, its cluster, and the pods as they were right after `pulumi up`."""

    stack: Stack
    cluster: Cluster
    first_sight: dict[str, Pod]

    @property
    def members(self) -> int:
        return int(self.stack.config.get("replicas", 3))

    def healthy(self, seconds: float = 120.0) -> dict[str, Pod]:
        return self.cluster.wait_healthy(self.members, seconds)


def small(namespace: str, **keys: Any) -> dict[str, Any]:
    """The config of a cluster of a test: disks of which nothing is left. Smaller ones would fill:
    512MB of WAL are kept, and each failover begins a segment."""
    return {
        "namespace": namespace,
        "version": versions()["17"],
        "storage": {"resources": {"requests": {"storage": "1Gi"}}},
        "deletionPolicy": "WipeOut",
        **keys,
    }


def bring_up(pairs: Sequence[tuple[Stack, Cluster]]) -> list[Deployed]:
    """`pulumi up` of all of them at once; returns when each is healthy."""

    def one(pair: tuple[Stack, Cluster]) -> Deployed:
        stack, cluster = pair
        stack.up()
        pods = cluster.pods()
        deployed = Deployed(stack, cluster, pods)
        deployed.healthy()
        return deployed

    with ThreadPoolExecutor(len(pairs)) as pool:
        return list(pool.map(one, pairs))


def destroy_all(stacks: Sequence[Deployed]) -> None:
    """`pulumi destroy` of all of them at once."""
    with ThreadPoolExecutor(len(stacks)) as pool:
        list(pool.map(lambda deployed: deployed.stack.destroy(), stacks))
