"""The lab as one thing: brings the cluster up, repairs it, tells its state, takes it down.

This is the Python interface that tests use; the command line in `__main__` is made of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab import mounts, pki, pulumi_engine, tools
from lab.control_plane import NAMES, ControlPlane
from lab.faults import Container, Faults
from lab.layout import Layout, enter
from lab.locking import locked
from lab.network import Network
from lab.node import KUBELET_FOLDER, Node, remove_shared_traces
from lab.paths import Cache, cache_from_environment
from lab.processes import Daemons, in_network_namespaces, kill_all, wait_until
from lab.requirements import check_machine, install_cluster_packages

NODES_SECONDS = 120.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class PartState:
    """What `status` says of one part of the lab."""

    name: str
    healthy: bool
    detail: str


class Lab:
    """One lab; cheap to make, touches nothing until a verb is called."""

    def __init__(self, cache: Path | None = None, name: str | None = None, nodes: int = 3) -> None:
        folder = Cache(cache or cache_from_environment())
        self.layout = Layout(folder, name or os.environ.get("LAB_NAME") or "lab", nodes)
        self._state_file = self.layout.run / "lab.json"
        self.daemons = Daemons(self.layout.run)
        self.network = Network(self.layout)
        self.control_plane = ControlPlane(self.layout, self.daemons)
        self.nodes = [Node(self.layout, self.daemons, n) for n in self.layout.numbers]
        self.faults = Faults(self.layout, self.daemons, self.network)

    # What tests and people need to use the cluster.

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    def env(self) -> dict[str, str]:
        """The environment in which kubectl and pulumi use this lab."""
        cache = self.layout.cache
        return {
            **os.environ,
            **pulumi_engine.environment(cache.root),
            "PULUMI_BACKEND_URL": f"file://{self.layout.pulumi_state}",
            "KUBECONFIG": str(self.kubeconfig),
            "PGHA_CACHE": str(cache.root),
            "LAB_NAME": self.layout.name,
            # As in a pod: NAME.NAMESPACE and NAME.NAMESPACE.svc are names of Services.
            "LOCALDOMAIN": "svc.cluster.local cluster.local",
            "RES_OPTIONS": "ndots:5",
        }

    def exec_prefix(self) -> list[str]:
        """Run a program where the API server and ClusterIPs can be reached."""
        return enter(self.layout.name)

    def node_prefix(self, number: int) -> list[str]:
        """Run a program in the network of a node."""
        return enter(self.layout.node_name(number))

    def kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run kubectl against this lab."""
        return subprocess.run(
            [*self.exec_prefix(), str(self.layout.cache.bin / "kubectl"), *arguments],
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    # Faults.

    def cut_node(self, number: int) -> None:
        self.network.cut(number)

    def mend_node(self, number: int) -> None:
        self.network.mend(number)

    def container(self, pod: str, namespace: str = "default", name: str = "") -> Container:
        return self.faults.container(pod, namespace, name)

    # Up and down.

    def build(self) -> list[Path]:
        """Make the tools, the engine and the images that are missing; return the images."""
        from lab import images

        root = self.layout.cache.root
        tools.build(self.layout.cache)
        pulumi_engine.install(root)
        return images.build(root)

    def up(self, archives: list[Path] | None = None) -> None:
        """Bring the cluster up, or repair it; with no archives given, with all images."""
        started = time.monotonic()
        check_machine(self.layout.cache.root, (self.layout.cache.bin / "kubelet").exists())
        install_cluster_packages()
        if archives is None:
            archives = self.build()
        with locked(self._lock):
            if self.layout.run.exists() and not self._repairable():
                say("the cluster that was here cannot be repaired, starting afresh")
                self._clear()
            self._start(archives)
        say(f"cluster {self.layout.name} is up after {time.monotonic() - started:.0f} s")

    def load_images(self) -> None:
        """Build the images that are stale and load them into the nodes, if nodes run."""
        from lab import images

        archives = images.build(self.layout.cache.root)
        with locked(self._lock):
            if self._repairable():
                self._on_each_node(lambda node: node.import_images(archives))

    def down(self) -> None:
        """Take the cluster away and all that it left on the machine."""
        with locked(self._lock):
            self._clear()
        say(f"cluster {self.layout.name} is gone")

    def status(self) -> list[PartState]:
        """The state of every part; asks, changes nothing."""
        parts = [
            PartState(f"namespace {name}", found, "made by this lab" if found else "missing")
            for name in self.layout.namespaces
            for found in [self.network.inodes().get(name) is not None and self.network.whole()]
        ]
        for name in [*NAMES, *(part for node in self.nodes for part in node.daemon_names)]:
            process = self.daemons.get(name)
            detail = f"process {process.pid}" if process else f"not running, see {self._log(name)}"
            parts.append(PartState(name, process is not None, detail))
        ready = self.daemons.get("kube-apiserver") is not None and self.control_plane.ready()
        parts.append(PartState("API server", ready, "ready" if ready else "not ready"))
        conditions = self._node_conditions() if ready else {}
        for node in self.nodes:
            state = conditions.get(node.name, "unknown")
            parts.append(PartState(node.name, state == "True", f"Ready is {state}"))
        return parts

    @property
    def _lock(self) -> Path:
        return self.layout.cache.root / f"{self.layout.name}.lock"

    def _log(self, name: str) -> Path:
        return self.daemons.log(name)

    def _state(self) -> dict[str, object]:
        try:
            state: dict[str, object] = json.loads(self._state_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state

    def _repairable(self) -> bool:
        """Whether starting what is missing gives back the same cluster.

        Not after a restart of the machine or with a namespace missing: the pods' own networks
        are gone with it, and containers that kubelet believes in.
        """
        state = self._state()
        same_boot = state.get("boot") == BOOT_ID.read_text().strip()
        same_shape = state.get("nodes") == self.layout.nodes
        return same_boot and same_shape and self.network.whole()

    def _start(self, archives: list[Path]) -> None:
        self.network.refuse_strangers()
        self.layout.run.mkdir(parents=True, exist_ok=True)
        self.layout.pulumi_state.mkdir(parents=True, exist_ok=True)
        if not self._state_file.exists():
            state = {
                "boot": BOOT_ID.read_text().strip(),
                "nodes": self.layout.nodes,
                "kubelet_folder_is_ours": not KUBELET_FOLDER.exists(),
            }
            self._state_file.write_text(json.dumps(state))
        self._step("network", self.network.up)
        self.faults.mend_all()
        self._step("certificates", lambda: pki.make(self.layout))
        self._step("control plane", self.control_plane.up)
        self._step("nodes and images", lambda: self._start_nodes(archives))
        self._step("nodes ready", self._wait_nodes)
        self._step("storage classes and accounts", self._wait_usable)

    def _start_nodes(self, archives: list[Path]) -> None:
        self._on_each_node(lambda node: node.up(archives))

    def _on_each_node(self, action: Callable[[Node], object]) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(action, self.nodes))

    def _node_conditions(self) -> dict[str, str]:
        answer = self.kubectl("get", "nodes", "-o", "json", "--request-timeout=5s")
        if answer.returncode != 0:
            return {}
        return {
            item["metadata"]["name"]: condition["status"]
            for item in json.loads(answer.stdout)["items"]
            for condition in item["status"].get("conditions", [])
            if condition["type"] == "Ready"
        }

    def _wait_nodes(self) -> None:
        def ready() -> bool:
            # All kubelets of a machine make and delete one socket folder when they start,
            # /var/lib/kubelet/device-plugins; the one that loses the race ends.
            started = [node.start_kubelet() for node in self.nodes]
            conditions = self._node_conditions()
            return not any(started) and all(
                conditions.get(node.name) == "True" for node in self.nodes
            )

        wait_until(
            ready,
            NODES_SECONDS,
            lambda: "; ".join(
                f"{node.name} is not Ready, its kubelet says "
                + self.daemons.last_words(f"{node.name}-kubelet")
                for node in self.nodes
                if self._node_conditions().get(node.name) != "True"
            ),
            0.3,
        )

    def _wait_usable(self) -> None:
        wanted = ("storageclass/standard", "storageclass/fixed", "serviceaccount/default")
        wait_until(
            lambda: self.kubectl("get", *wanted).returncode == 0,
            30,
            lambda: (
                f"the cluster lacks {' or '.join(wanted)}: "
                f"{self.kubectl('get', *wanted).stderr.strip()}; the storage provisioner's log "
                f"ends with {self.daemons.last_words('storage')}"
            ),
        )

    def _step(self, name: str, action: Callable[[], None]) -> None:
        started = time.monotonic()
        action()
        say(f"{name}: {time.monotonic() - started:.1f} s")

    def _clear(self) -> None:
        """Remove everything that this lab's records, cgroups and namespaces name."""
        from lab import storage

        if not self.layout.run.exists():
            return
        recorded = self._state().get("nodes")
        nodes = self.nodes
        if isinstance(recorded, int) and recorded != self.layout.nodes:
            layout = dataclasses.replace(self.layout, nodes=recorded)
            nodes = [Node(layout, self.daemons, number) for number in layout.numbers]
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(Node.stop, nodes))
        self.control_plane.down()
        inodes = self.network.inodes().values()
        kill_all(p for p in in_network_namespaces(inodes) if p.pid not in _own_line())
        storage.cleanup(self.layout.storage)
        mounts.unmount_below(self.layout.run)
        for node in nodes:
            node.remove_traces()
        self.network.down()
        remove_shared_traces(self.layout)
        if self._state().get("kubelet_folder_is_ours"):
            shutil.rmtree(KUBELET_FOLDER, ignore_errors=True)
        # What stacks say of a cluster that is gone would only make the next `pulumi up` fail.
        shutil.rmtree(self.layout.pulumi_state, ignore_errors=True)
        shutil.rmtree(self.layout.run)

    def mend(self) -> None:
        """Undo every fault and start every daemon that does not run."""
        self.faults.mend_all()
        with locked(self._lock):
            self.control_plane.up()
            for node in self.nodes:
                node.up([])
            self._wait_nodes()


def _own_line() -> set[int]:
    """This process and its ancestors, who may themselves be in a `lab shell`."""
    pids, pid = set(), os.getpid()
    while pid > 1:
        pids.add(pid)
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pid = int(status[1])
    return pids


def say(text: str) -> None:
    """Progress goes to the error stream, so that output of verbs can be piped."""
    print(f"lab: {text}", file=sys.stderr, flush=True)
