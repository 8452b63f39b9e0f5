"""Owns the faults that tests put into a running lab, and mends every one of them.

Each fault is named by what a user sees (node, pod, container); nothing here knows the product.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab import cgroups
from lab.layout import API_ADDRESS, API_PORT, API_SERVICE_ADDRESS, Layout, enter
from lab.network import Network, run
from lab.processes import PROC, Daemons, Process
from lab.requirements import LabError

TABLE = "lab_faults"
Direction = Literal["in", "out", "both"]


@dataclass(frozen=True)
class Container:
    """A running container, reached through its cgroup and not through the API."""

    pod: str
    container_id: str
    folder: Path

    def processes(self, matching: str = "") -> list[Process]:
        """Its processes whose command line holds the text, the first process first."""
        return [
            process
            for process in cgroups.members(self.folder)
            if matching in command_line(process.pid)
        ]

    def signal(self, number: int, matching: str = "", first: bool = False) -> list[int]:
        """Send a signal to the processes that match, or to the first of them alone."""
        chosen = self.processes(matching)[: 1 if first else None]
        return [process.pid for process in chosen if process.send(number)]

    def freeze(self) -> None:
        cgroups.freeze(self.folder)

    def thaw(self) -> None:
        cgroups.thaw(self.folder)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen as long as the block runs."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()


def command_line(pid: int) -> str:
    """The process's title as `ps` shows it; empty if it is gone."""
    try:
        text = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.replace(b"\0", b" ").decode(errors="replace").strip()


class Faults:
    """What tests do to one lab."""

    def __init__(self, layout: Layout, daemons: Daemons, network: Network) -> None:
        self._layout = layout
        self._daemons = daemons
        self._network = network

    def container(self, pod: str, namespace: str = "default", name: str = "") -> Container:
        """The pod's container of that name, or its first one."""
        answer = subprocess.run(
            [
                *enter(self._layout.name),
                str(self._layout.cache.bin / "kubectl"),
                f"--kubeconfig={self._layout.kubeconfig}",
                f"--namespace={namespace}",
                *("get", "pod", pod, "-o", "json"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if answer.returncode != 0:
            raise LabError(f"Cannot find pod {namespace}/{pod}: {answer.stderr.strip()}")
        described = json.loads(answer.stdout)
        node = described["spec"].get("nodeName", "")
        for status in described["status"].get("containerStatuses", []):
            if name in ("", status["name"]) and "running" in status["state"]:
                container_id = status["containerID"].rpartition("/")[2]
                folder = cgroups.container(node, container_id)
                if folder:
                    return Container(f"{namespace}/{pod}", container_id, folder)
        raise LabError(f"Pod {namespace}/{pod} has no running container {name or 'at all'} here.")

    def cut_node_api(self, number: int) -> None:
        """Cut the node and its pods from the API server, and from nothing else."""
        self._drop_api(enter(self._layout.node_name(number)))

    def mend_node_api(self, number: int) -> None:
        self._forget(enter(self._layout.node_name(number)))

    def cut_pod_api(self, container: Container) -> None:
        """Cut one pod from the API server, and from nothing else."""
        self._drop_api(self._pod_prefix(container))

    def cut_pod_peer(
        self,
        container: Container,
        address: str,
        direction: Direction = "both",
        port: int | None = None,
    ) -> None:
        """Drop what the pod exchanges with an address, one way or both, on one port or all."""
        rules = []
        match = f" tcp dport {port}" if port else ""
        back = f" tcp sport {port}" if port else ""
        if direction in ("out", "both"):
            rules += [("out", f"ip daddr {address}{text} drop") for text in {match, back}]
        if direction in ("in", "both"):
            rules += [("in", f"ip saddr {address}{text} drop") for text in {match, back}]
        self._rules(self._pod_prefix(container), rules)

    def mend_pod(self, container: Container) -> None:
        """Undo every cut of this pod."""
        self._forget(self._pod_prefix(container))

    def hang(self, daemon: str) -> None:
        """SIGSTOP a daemon: it keeps its connections and answers nothing."""
        self._daemon(daemon).send(signal.SIGSTOP)

    def wake(self, daemon: str) -> None:
        """SIGCONT a daemon."""
        self._daemon(daemon).send(signal.SIGCONT)

    def mend_all(self) -> None:
        """Undo every fault of this lab; a daemon that was stopped is `up`'s business."""
        for name in self._daemons.names():
            if process := self._daemons.get(name):
                process.send(signal.SIGCONT)
        for number in self._layout.numbers:
            self._network.mend(number)
            node = self._layout.node_name(number)
            cgroups.thaw_all(node)
            self._forget(enter(node))
            pods = self._layout.node_run(number) / "state/io.containerd.grpc.v1.cri/netns"
            for pod in pods.glob("*"):
                self._forget(["nsenter", f"--net={pod}"])

    def _daemon(self, name: str) -> Process:
        process = self._daemons.get(name)
        if process is None:
            raise LabError(f"{name!r} does not run; the lab's daemons are {self._daemons.names()}.")
        return process

    @staticmethod
    def _pod_prefix(container: Container) -> list[str]:
        members = container.processes()
        if not members:
            raise LabError(f"Container {container.container_id[:12]} of {container.pod} is gone.")
        return ["nsenter", f"--target={members[0].pid}", "--net"]

    def _drop_api(self, prefix: list[str]) -> None:
        # A pod speaks to the service's address; on its node that is the server's own already.
        targets = ((API_ADDRESS, API_PORT), (API_SERVICE_ADDRESS, 443))
        self._rules(
            prefix,
            [
                (chain, f"ip daddr {address} tcp dport {port} drop")
                for chain in ("out", "forward")
                for address, port in targets
            ],
        )

    @staticmethod
    def _rules(prefix: list[str], rules: list[tuple[str, str]]) -> None:
        hooks = {"in": "input", "out": "output", "forward": "forward"}
        lines = [f"add table inet {TABLE}"]
        for chain, hook in hooks.items():
            kind = f"{{ type filter hook {hook} priority -300; }}"
            lines.append(f"add chain inet {TABLE} {chain} {kind}")
        lines += [f"add rule inet {TABLE} {chain} {rule}" for chain, rule in rules]
        run([*prefix, "nft", "; ".join(lines)])

    @staticmethod
    def _forget(prefix: list[str]) -> None:
        # Adding first makes the deletion succeed when there is nothing to delete.
        run([*prefix, "nft", f"add table inet {TABLE}; delete table inet {TABLE}"])
