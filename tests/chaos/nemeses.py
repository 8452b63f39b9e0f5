"""The table of faults: what strikes, for how long, and what each may cost.

Owns the bounds that the checker applies; how a fault strikes and is undone is in `harm/`. A nemesis
is a context: harm on entering, undone on leaving, whatever happens in between. A run that was
killed is cleaned up by the next `lab up`, which mends every fault of the lab.
"""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lab.requirements import LabError
from tests.chaos.checker import Bounds
from tests.chaos.harm import control_plane, network, pods, processes, storage
from tests.chaos.harm.processes import AGENT, FENCER, POSTMASTER, Harm, signalled, stopped
from tests.support.postgres import Cluster, Pod

LEASE_SECONDS = 15.0


@dataclass(frozen=True)
class Nemesis:
    """`lasts`: seconds between harm and undoing; 0: nothing to undo. `shared`: it harms what
    other clusters use as well, so that nothing else may be struck meanwhile. `everywhere`: the same
    harm whichever cluster is struck, so that one strike is a trial of each. `cut_off`: the primary
    loses its standbys, so that quorumFailover replaces it early."""

    name: str
    harm: Harm
    bounds: Bounds
    lasts: float = 0.0
    shared: bool = False
    everywhere: bool = False
    cut_off: bool = False

    def early(self, neighbours: Sequence[str]) -> Bounds:
        """What it may cost with quorumFailover. `neighbours`: members on the primary's node. If
        that is what is harmed, the others miss their early votes, and wait for the lease."""
        missed = self.shared and neighbours
        return CUT_OFF if self.cut_off and not missed else self.bounds


@contextlib.contextmanager
def _api_and_members(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """Nobody can promise to wait for the primary, so it has to stop in time (law, point 14)."""
    # In this order: a pod is found by the API.
    cut, hang = network.members_cut("both"), control_plane.hung("kube-apiserver")
    with cut(cluster, primary), hang(cluster, primary):
        yield


@contextlib.contextmanager
def _cut_and_deleted(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """It cannot give the lease back by itself, and tells the members that it has ended."""
    with network.api_cut(cluster, primary), pods.deleted(None)(cluster, primary):
        yield


@contextlib.contextmanager
def _killed_and_deleted(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """Nobody gives the lease back, and nobody restarts the container: the next pod of that name
    has to find out what is left."""
    with signalled(signal.SIGKILL, AGENT)(cluster, primary), pods.deleted(0)(cluster, primary):
        yield


@contextlib.contextmanager
def _mixed(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """Two faults at once, any two that can be put into one cluster and be undone."""
    first, second = sorted(random.sample(MIXABLE, 2), key=lambda name: name == "api-hang")
    with contextlib.ExitStack() as both:
        both.enter_context(NEMESES[first].harm(cluster, primary))
        try:
            both.enter_context(NEMESES[second].harm(cluster, primary))
        except (AssertionError, LabError) as error:  # the first left nothing to harm
            second = f"nothing ({error})"
        print(f"mixed: {first} with {second}", flush=True)
        yield


PLANNED, PROCESS = Bounds(outage=15.0), Bounds(outage=20.0)
KEPT = replace(PROCESS, keeps=True)
LEASE = Bounds(outage=LEASE_SECONDS + 25.0, may_lose=True)
CUT_OFF = Bounds(outage=10.0)  # 3 s of silence, about 1.5 s to promote, and slack
FULL_RESTART = Bounds(outage=60.0)
BOTH = Bounds(outage=65.0, may_lose=True)  # the fault itself, and then as for a lease

API_HANG = control_plane.hung("kube-apiserver")

NEMESES = {
    nemesis.name: nemesis
    for nemesis in (
        Nemesis("switchover", pods.switchover, PLANNED),
        Nemesis("pod-delete", pods.deleted(None), PLANNED),
        Nemesis("drain", pods.drained, PLANNED, lasts=10.0, shared=True),
        Nemesis("agent-term", signalled(signal.SIGTERM, AGENT), PLANNED),
        Nemesis("all-pods", pods.all_deleted(None), FULL_RESTART),
        Nemesis("postmaster-kill", signalled(signal.SIGKILL, POSTMASTER), PROCESS),
        Nemesis("postmaster-quit", signalled(signal.SIGQUIT, POSTMASTER), PROCESS),
        Nemesis("postmaster-term", signalled(signal.SIGTERM, POSTMASTER), PROCESS),
        Nemesis("walsender-kill", signalled(signal.SIGKILL, "walsender"), PROCESS),
        Nemesis("walreceiver-kill", signalled(signal.SIGKILL, "walreceiver", True), PROCESS),
        Nemesis("agent-kill", signalled(signal.SIGKILL, AGENT), PROCESS),
        Nemesis("all-killed", processes.all_killed, FULL_RESTART),
        Nemesis("fencer-kill", signalled(signal.SIGKILL, FENCER), PROCESS),
        Nemesis("agent-stop", stopped(AGENT), LEASE, lasts=25.0),
        Nemesis("postgres-stop", stopped("postgres", first=False), LEASE, lasts=25.0),
        Nemesis("freeze", processes.frozen, LEASE, lasts=25.0),
        Nemesis("force-delete", pods.deleted(0), LEASE),
        Nemesis("force-kill", _killed_and_deleted, LEASE),
        Nemesis("node-cut", network.node_cut, LEASE, lasts=25.0, shared=True, cut_off=True),
        Nemesis("api-cut", network.api_cut, LEASE, lasts=25.0),
        Nemesis("cut-delete", _cut_and_deleted, PLANNED, lasts=10.0),
        Nemesis("replication-cut", network.replication_cut, KEPT, lasts=15.0),
        Nemesis("replication-cut-long", network.replication_cut, KEPT, lasts=70.0),
        Nemesis("members-cut", network.members_cut("both"), PROCESS, lasts=15.0, cut_off=True),
        Nemesis("members-deaf", network.members_cut("in"), PROCESS, lasts=15.0),
        Nemesis("members-mute", network.members_cut("out"), PROCESS, lasts=15.0),
        Nemesis("api-stop", control_plane.api_stopped, PROCESS, lasts=60.0, everywhere=True),
        Nemesis("api-hang", API_HANG, PROCESS, lasts=25.0, everywhere=True),
        Nemesis("api-slow", control_plane.api_slow, PROCESS, lasts=20.0, everywhere=True),
        Nemesis("etcd-hang", control_plane.hung("etcd"), PROCESS, lasts=25.0, everywhere=True),
        Nemesis("api-and-members", _api_and_members, BOTH, lasts=25.0, shared=True),
        Nemesis("lease-delete", pods.lease_deleted, LEASE),
        Nemesis("lease-stranger", pods.lease_held_by_a_stranger, LEASE),
        Nemesis("labels", pods.labels_edited, Bounds(outage=20.0, labels=20.0)),
        Nemesis("disk-freeze", storage.disk_frozen, LEASE, lasts=25.0),
        Nemesis("disk-full", storage.disk_full, LEASE, lasts=25.0),
        Nemesis("standby-emptied", storage.emptied(standby=True), PROCESS),
        Nemesis("primary-emptied", storage.emptied(standby=False), LEASE),
        Nemesis("clone-killed", storage.copy_killed, PROCESS),
        Nemesis("mixed", _mixed, Bounds(outage=90.0, may_lose=True), lasts=20.0, shared=True),
    )
}
MIXABLE = (
    "agent-kill", "agent-stop", "api-hang", "clone-killed", "freeze", "lease-delete", "members-cut",
    "members-deaf", "pod-delete", "postmaster-kill", "replication-cut", "walsender-kill",
)
