"""The clusters that are struck. Owns their stacks, one a mode, in one namespace of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from lab.cluster import Lab
from tests.support.deployed import Deployed, bring_up, small
from tests.support.kube import Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import Cluster
from tests.support.program import Program

NAMESPACE = "chaos"
MODES = ("warm-async", "hot-async", "warm-sync", "hot-sync")
EARLY_MODES = ("warm-sync-qf", "hot-sync-qf")  # with quorumFailover


def synchronous(mode: str) -> bool:
    return "-sync" in mode


def config_of(mode: str) -> dict[str, Any]:
    """A mode's stack config; everything that is not named has its default."""
    standby = mode.split("-")[0]
    early = {"quorumFailover": True} if mode in EARLY_MODES else {}
    # Each failover leaves a WAL segment until the next checkpoint, and here come thirty of them.
    storage = {"resources": {"requests": {"storage": "2Gi"}}}
    return small(
        NAMESPACE,
        storage=storage,
        replicas=3,
        standbyMode=standby.capitalize(),
        streamingMode="Synchronous" if synchronous(mode) else "Asynchronous",
        **early,
    )


@contextlib.contextmanager
def standing_clusters(
    lab: Lab, kube: Kube, program: Program, modes: Sequence[str]
) -> Iterator[dict[str, Deployed]]:
    """The clusters of these modes, up as long as the block runs."""
    make_namespace(kube, NAMESPACE)
    try:
        pairs = [
            (program.stack(f"chaos-{mode}", {**config_of(mode), "name": mode}),
             Cluster(lab, kube, NAMESPACE, mode))
            for mode in modes
        ]  # fmt: skip
        yield dict(zip(modes, bring_up(pairs), strict=True))
    finally:
        lab.faults.mend_all()
        drop_namespace(kube, NAMESPACE)
