"""How short a lease may be: what a cut-off node costs with it, and how much of it load uses up.

For each setting a cluster of its own writes WAL as fast as the machine does, while every renewal of
the Lease is watched; then its primary's node is cut off. A setting is too short for a machine as
soon as the holder changes, or the longest time between two renewals comes near renewDeadline.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.faults import FAULTS
from bench.sights import Sight
from bench.sizes import cluster, rates
from bench.systems import MEMBERS, SERVICE, Pgha, Watched
from bench.trial import run_trial
from bench.watching import Watcher
from lab.cluster import Lab
from tests.support.kube import LEASES, Kube

KEYS = ("leaseDurationSeconds", "renewDeadlineSeconds", "retryPeriodSeconds")
DEFAULT = "15/10/2,9/6/2,6/4/1,4/3/1"
WRITERS = 16
ROOM_MB = 4000


def settings(text: str) -> list[tuple[int, ...]]:
    """`15/10/2,6/4/1`: leaseDuration, renewDeadline and retryPeriod in seconds, of each."""
    found = [tuple(int(part) for part in each.split("/")) for each in text.split(",")]
    if any(len(each) != len(KEYS) for each in found):
        raise argparse.ArgumentTypeError(f"{text}: three numbers each are wanted, as 15/10/2")
    return found


def measure(
    lab: Lab, kube: Kube, config: dict[str, Any], wanted: Sequence[tuple[int, ...]],
    seconds: float, into: Path, keep: Callable[[dict[str, Any]], None],
) -> None:
    for setting in wanted:
        election = {"leaderElection": dict(zip(KEYS, setting, strict=True))}
        with cluster(lab, kube, {**config, **election}, MEMBERS, ROOM_MB) as (system, _):
            keep({"lease": "/".join(map(str, setting)), **loaded(system, seconds),
                  **cut(system, into)})  # fmt: skip


def loaded(system: Pgha, seconds: float) -> dict[str, Any]:
    """Under all the WAL that the machine writes: the renewals, and whether the holder changed."""
    watcher = Watcher(system, watched=[renewals(system)])
    watcher.start()
    began = time.monotonic()
    try:
        found = rates(system, WRITERS, seconds)
    finally:
        watcher.stop()
    took = time.monotonic() - began
    return {
        "changes of the holder": found["changes of the holder"], "WAL MB/s": found["WAL MB/s"],
        "renewals a minute": 60 * len(watcher.sights) / took,
        "longest without one s": longest(watcher.sights),
    }  # fmt: skip


def renewals(system: Pgha) -> Watched:
    def renewed(lease: dict[str, Any]) -> str:
        return str((lease.get("spec") or {}).get("renewTime"))

    path = system.kube.path(system.namespace, LEASES)
    return Watched("renewal", path, {"fieldSelector": f"metadata.name={system.name}"}, renewed)


def longest(sights: Sequence[Sight]) -> float:
    """Between two renewals that were seen; 0 of fewer than two."""
    times = sorted(sight.at for sight in sights)
    return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)


def cut(system: Pgha, into: Path) -> dict[str, Any]:
    """One cut-off node, as its clients see it through the Service."""
    stem = f"lease-{time.strftime('%Y%m%d%H%M%S')}"
    trial = run_trial(system, FAULTS["node-cut"], SERVICE, into / "attempts", stem)
    verdict = trial.ways[SERVICE]
    return {"node cut s": verdict["outage"], "lost": verdict["lost"]}
