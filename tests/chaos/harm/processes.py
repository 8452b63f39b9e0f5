"""Harm to processes: signals, stops, a frozen container. Owns how each is undone."""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Callable, Iterator

from lab.faults import Container
from tests.support.postgres import Cluster, Pod

AGENT, FENCER, POSTMASTER = "-m pgha agent", "fencer.py", "config_file"
Harm = Callable[[Cluster, Pod], contextlib.AbstractContextManager[None]]


def container(cluster: Cluster, pod: Pod) -> Container:
    return cluster.lab.container(pod.name, cluster.namespace, "postgres")


def signalled(number: int, matching: str, standby: bool = False) -> Harm:
    """One signal to the first process that matches, of the primary's pod or of a standby's."""

    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        pod = random.choice(cluster.replicas()) if standby else primary
        hit = container(cluster, pod).signal(number, matching, first=True)
        assert hit, f"no process of {pod.name} matches {matching!r}"
        yield

    return harm


def stopped(matching: str, first: bool = True) -> Harm:
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
def frozen(cluster: Cluster, primary: Pod) -> Iterator[None]:
    with container(cluster, primary).frozen():
        yield


@contextlib.contextmanager
def all_killed(cluster: Cluster, primary: Pod) -> Iterator[None]:
    for pod in cluster.pods().values():
        container(cluster, pod).signal(signal.SIGKILL, AGENT, first=True)
    yield
