"""The faults, one class of harm each. Owns how they strike, for how long, how they are undone,
and what each may cost (the bounds that the checker applies).

A nemesis is a context: harm on entering, undone on leaving, whatever happens in between. A run
that was killed is cleaned up by the next `lab up`, which mends every fault of the lab.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lab.faults import Container
from tests.chaos.checker import Bounds
from tests.support.kube import LEASES
from tests.support.outage import api_gone
from tests.support.postgres import ROLE, Cluster, Pod

AGENT, FENCER, POSTMASTER = "-m pgha agent", "fencer.py", "config_file"
LEASE_SECONDS = 15.0
Harm = Callable[[Cluster, Pod], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Nemesis:
    """`lasts`: seconds between harm and undoing; 0: nothing to undo."""

    name: str
    harm: Harm
    bounds: Bounds
    lasts: float = 0.0


def container(cluster: Cluster, pod: Pod) -> Container:
    return cluster.lab.container(pod.name, cluster.namespace, "postgres")


def _signal(number: int, matching: str) -> Harm:
    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        hit = container(cluster, primary).signal(number, matching, first=True)
        assert hit, f"no process of {primary.name} matches {matching!r}"
        yield

    return harm


def _stopped(matching: str, first: bool = True) -> Harm:
    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        found = container(cluster, primary).processes(matching)[: 1 if first else None]
        assert found, f"no process of {primary.name} matches {matching!r}"
        for process in found:
            process.send(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in found:
                process.send(signal.SIGCONT)

    return harm


@contextlib.contextmanager
def _frozen(cluster: Cluster, primary: Pod) -> Iterator[None]:
    with container(cluster, primary).frozen():
        yield


def _deleted(grace: int | None) -> Harm:
    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        cluster.kube.delete(cluster.path("pods", primary.name), grace)
        yield

    return harm


def _all_deleted(grace: int | None) -> Harm:
    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        for pod in cluster.pods():
            cluster.kube.delete(cluster.path("pods", pod), grace)
        yield

    return harm


@contextlib.contextmanager
def _all_killed(cluster: Cluster, primary: Pod) -> Iterator[None]:
    for pod in cluster.pods().values():
        container(cluster, pod).signal(signal.SIGKILL, AGENT, first=True)
    yield


@contextlib.contextmanager
def _node_cut(cluster: Cluster, primary: Pod) -> Iterator[None]:
    number = int(primary.node.rpartition("node")[2])
    cluster.lab.cut_node(number)
    try:
        yield
    finally:
        cluster.lab.mend_node(number)


@contextlib.contextmanager
def _api_cut(cluster: Cluster, primary: Pod) -> Iterator[None]:
    target = container(cluster, primary)
    cluster.lab.faults.cut_pod_api(target)
    try:
        yield
    finally:
        cluster.lab.faults.mend_pod(target)


@contextlib.contextmanager
def _replication_cut(cluster: Cluster, primary: Pod) -> Iterator[None]:
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


@contextlib.contextmanager
def _members_cut(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """The primary's pod sees no other member, but clients and the API as ever."""
    target = container(cluster, primary)
    for pod in cluster.replicas():
        _add_cut(cluster, target, pod.address)
    try:
        yield
    finally:
        cluster.lab.faults.mend_pod(target)


def _add_cut(cluster: Cluster, target: Container, address: str) -> None:
    cluster.lab.faults.cut_pod_peer(target, address, "both")


@contextlib.contextmanager
def _api_stopped(cluster: Cluster, primary: Pod) -> Iterator[None]:
    with api_gone(cluster.lab):
        yield


@contextlib.contextmanager
def _api_hung(cluster: Cluster, primary: Pod) -> Iterator[None]:
    cluster.lab.faults.hang("kube-apiserver")
    try:
        yield
    finally:
        cluster.lab.faults.wake("kube-apiserver")


@contextlib.contextmanager
def _lease_deleted(cluster: Cluster, primary: Pod) -> Iterator[None]:
    cluster.kube.delete(cluster.path(LEASES, cluster.name))
    yield


@contextlib.contextmanager
def _lease_held_by_a_stranger(cluster: Cluster, primary: Pod) -> Iterator[None]:
    cluster.kube.patch(
        cluster.path(LEASES, cluster.name), {"spec": {"holderIdentity": "a/stranger/1"}}
    )
    yield


@contextlib.contextmanager
def _labels_edited(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """By hand: the primary is called a replica, and a replica the primary."""
    replica = random.choice(cluster.replicas())
    for name, role in ((primary.name, "replica"), (replica.name, "primary")):
        body = {"metadata": {"labels": {ROLE: role}}}
        cluster.kube.patch(cluster.path("pods", name), body)
    yield


@contextlib.contextmanager
def _switchover(cluster: Cluster, primary: Pod) -> Iterator[None]:
    done = cluster.pgha("switchover", pod=primary.name)
    assert done.returncode == 0 or "terminated" in done.stderr, json.dumps(
        [done.stdout, done.stderr]
    )
    yield


@contextlib.contextmanager
def _backend_killed(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """PostgreSQL's own answer to a crashed process is to start anew."""
    hit = container(cluster, primary).signal(signal.SIGKILL, "walsender", first=True)
    assert hit, "the primary has no walsender"
    yield


@contextlib.contextmanager
def _disk_frozen(cluster: Cluster, primary: Pod) -> Iterator[None]:
    pids = [p.pid for p in container(cluster, primary).processes(AGENT)]
    mount = f"/proc/{pids[0]}/root/var/lib/postgresql/data"
    device = subprocess.run(["findmnt", "-no", "SOURCE", "--target", mount], capture_output=True,
                            text=True).stdout.split("[")[0].strip()  # fmt: skip
    target = subprocess.run(["findmnt", "-nro", "TARGET", "--source", device],
                            capture_output=True, text=True).stdout.split()[0]  # fmt: skip
    subprocess.run(["fsfreeze", "--freeze", target], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", target], check=False)


PLANNED, PROCESS = Bounds(outage=15.0), Bounds(outage=20.0)
LEASE = Bounds(outage=LEASE_SECONDS + 25.0, may_lose=True)

NEMESES = {
    nemesis.name: nemesis
    for nemesis in (
        Nemesis("switchover", _switchover, PLANNED),
        Nemesis("pod-delete", _deleted(None), PLANNED),
        Nemesis("all-pods", _all_deleted(None), Bounds(outage=60.0)),
        Nemesis("postmaster-kill", _signal(signal.SIGKILL, POSTMASTER), PROCESS),
        Nemesis("walsender-kill", _backend_killed, PROCESS),
        Nemesis("agent-kill", _signal(signal.SIGKILL, AGENT), PROCESS),
        Nemesis("all-killed", _all_killed, Bounds(outage=60.0)),
        Nemesis("fencer-kill", _signal(signal.SIGKILL, FENCER), PROCESS),
        Nemesis("agent-stop", _stopped(AGENT), LEASE, lasts=25.0),
        Nemesis("postgres-stop", _stopped("postgres", first=False), LEASE, lasts=25.0),
        Nemesis("freeze", _frozen, LEASE, lasts=25.0),
        Nemesis("force-delete", _deleted(0), LEASE),
        Nemesis("node-cut", _node_cut, LEASE, lasts=25.0),
        Nemesis("api-cut", _api_cut, LEASE, lasts=25.0),
        Nemesis("replication-cut", _replication_cut, PROCESS, lasts=15.0),
        Nemesis("members-cut", _members_cut, PROCESS, lasts=15.0),
        Nemesis("api-stop", _api_stopped, PROCESS, lasts=60.0),
        Nemesis("api-hang", _api_hung, PROCESS, lasts=25.0),
        Nemesis("lease-delete", _lease_deleted, LEASE),
        Nemesis("lease-stranger", _lease_held_by_a_stranger, LEASE),
        Nemesis("labels", _labels_edited, Bounds(outage=20.0, labels=20.0)),
        Nemesis("disk-freeze", _disk_frozen, LEASE, lasts=25.0),
    )
}
