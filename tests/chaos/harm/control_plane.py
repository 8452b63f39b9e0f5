"""Harm to the API server and to etcd, which all clusters share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tests.chaos.harm.processes import Harm
from tests.support.outage import api_gone
from tests.support.postgres import Cluster, Pod

SLOW_SHARE, SLOW_TURN = 0.6, 0.5  # of each half second the API server stands still for this share


@contextlib.contextmanager
def api_stopped(cluster: Cluster, primary: Pod) -> Iterator[None]:
    with api_gone(cluster.lab):
        yield


def hung(daemon: str) -> Harm:
    """It keeps its connections and answers nothing. Without etcd the API server answers from its
    cache at most: every write waits."""

    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        cluster.lab.faults.hang(daemon)
        try:
            yield
        finally:
            cluster.lab.faults.wake(daemon)

    return harm


@contextlib.contextmanager
def api_slow(cluster: Cluster, primary: Pod) -> Iterator[None]:
    over = threading.Event()

    def stutter() -> None:
        while not over.is_set():
            cluster.lab.faults.hang("kube-apiserver")
            over.wait(SLOW_TURN * SLOW_SHARE)
            cluster.lab.faults.wake("kube-apiserver")
            over.wait(SLOW_TURN * (1 - SLOW_SHARE))

    stuttering = threading.Thread(target=stutter, name="api-slow")
    stuttering.start()
    try:
        yield
    finally:
        over.set()
        stuttering.join()
        cluster.lab.faults.wake("kube-apiserver")
