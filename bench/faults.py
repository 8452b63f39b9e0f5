"""The faults of the benchmark: how each strikes at a moment of ours, and how it is undone.

Everything slow (finding the container, the node) is done before the strike, so that the moment
written down is the moment of harm.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from bench.systems import System
from lab.faults import Container
from lab.processes import PROC, Process

Do = Callable[[], object]


@dataclass(frozen=True)
class Harm:
    strike: Do
    undo: Do = lambda: None


@dataclass(frozen=True)
class Fault:
    """`gap`: an outage of at least so many seconds tells that the fault has had its effect, after
    which writing goes on for `tail` seconds. A trial lasts `at_least` so long; without an outage it
    ends `at_most` after the fault."""

    name: str
    prepare: Callable[[System, str], Harm]
    gap: float = 0.15
    tail: float = 5.0
    at_least: float = 8.0
    at_most: float = 12.0


def container_of(system: System, pod: str) -> Container:
    return system.lab.container(pod, system.namespace, system.container)


def init_of(container: Container) -> Process:
    """The process that is PID 1 in the container."""
    for process in container.processes():
        with contextlib.suppress(OSError):
            status = (PROC / str(process.pid) / "status").read_text()
            inside = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if inside.split()[-1] == "1":
                return process
    raise AssertionError(f"no process of {container.pod} is PID 1")


def _pod_deleted(grace: int | None) -> Callable[[System, str], Harm]:
    def prepare(system: System, primary: str) -> Harm:
        path = system.kube.path(system.namespace, "pods", primary)
        return Harm(lambda: system.kube.delete(path, grace))

    return prepare


def _switchover(system: System, primary: str) -> Harm:
    # The command waits for its end; the trial does not.
    asking = threading.Thread(target=system.switchover, args=(primary,), daemon=True)
    return Harm(asking.start, lambda: asking.join(60))


def _postmaster(system: System, primary: str) -> Harm:
    found = container_of(system, primary).processes(system.postmaster)
    assert found, f"no process of {primary} matches {system.postmaster!r}"
    return Harm(lambda: found[0].send(signal.SIGKILL))


def _init(system: System, primary: str) -> Harm:
    process = init_of(container_of(system, primary))
    return Harm(lambda: process.send(signal.SIGKILL))


def _agent_stopped(system: System, primary: str) -> Harm:
    """The agent alone: PostgreSQL and what else watches it go on."""
    container = container_of(system, primary)
    found = container.processes(system.agent)
    assert found, f"no process of {primary} matches {system.agent!r}"

    def send(number: int) -> None:
        for process in found:
            process.send(number)

    return Harm(lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT))


def _node_cut(system: System, primary: str) -> Harm:
    number = int(system.pods()[primary].node.rpartition("node")[2])
    return Harm(lambda: system.lab.cut_node(number), lambda: system.lab.mend_node(number))


LONG = {"gap": 2.0, "at_least": 20.0, "tail": 20.0, "at_most": 75.0}
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("switchover", _switchover),
        Fault("pod-delete", _pod_deleted(None)),
        Fault("postmaster-kill", _postmaster),
        Fault("init-kill", _init),
        Fault("force-delete", _pod_deleted(0), at_most=45.0),
        Fault("node-cut", _node_cut, **LONG),
        Fault("agent-stop", _agent_stopped, **LONG),
    )
}
