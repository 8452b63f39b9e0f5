"""Owns the names and addresses of one lab: namespaces, nodes, subnets, files of its run folder.

Two labs of different names can run at once: every address lives inside network namespaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lab.paths import Cache
from lab.requirements import LabError

API_ADDRESS = "10.90.0.1"
API_PORT = 6443
API_SERVICE_ADDRESS = "10.92.0.1"
SERVICE_SUBNET = "10.92.0.0/16"
POD_SUBNET = "10.91.0.0/16"
NETNS_FOLDER = Path("/run/netns")


@dataclass(frozen=True)
class Layout:
    """What one lab is called and where its parts are."""

    cache: Cache
    name: str = "lab"
    nodes: int = 3

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", self.name):
            raise LabError(
                f"A lab cannot be called {self.name!r}: use 1 to 8 lower-case letters and digits, "
                "because interfaces, namespaces and cgroups carry the name."
            )
        if not 1 <= self.nodes <= 9:
            raise LabError(f"A lab has 1 to 9 nodes (10.90.0.11 to .19), not {self.nodes}.")

    @property
    def run(self) -> Path:
        return self.cache.run(self.name)

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def storage(self) -> Path:
        return self.run / "storage"

    @property
    def kubeconfig(self) -> Path:
        return self.pki / "admin.kubeconfig"

    @property
    def pulumi_state(self) -> Path:
        """The stacks deployed on this lab; they end with the cluster."""
        return self.cache.pulumi / ("state" if self.name == "lab" else f"state-{self.name}")

    @property
    def numbers(self) -> range:
        return range(1, self.nodes + 1)

    def node_name(self, number: int) -> str:
        """The node's name, which is its namespace's and its cgroup's as well."""
        if number not in self.numbers:
            raise LabError(f"There is no node {number}: the lab has nodes 1 to {self.nodes}.")
        return f"{self.name}-node{number}"

    def node_run(self, number: int) -> Path:
        return self.run / self.node_name(number)

    def node_socket(self, number: int) -> Path:
        return self.node_run(number) / "containerd.sock"

    @staticmethod
    def node_address(number: int) -> str:
        return f"10.90.0.1{number}"

    @staticmethod
    def pod_subnet(number: int) -> str:
        return f"10.91.{number}.0/24"

    @property
    def namespaces(self) -> list[str]:
        return [self.name, *(self.node_name(number) for number in self.numbers)]

    @property
    def cni_network(self) -> str:
        """The CNI network's name; its result files on the machine carry it."""
        return f"pgha-{self.name}"


def enter(namespace: str) -> list[str]:
    """The command prefix that runs a program in a network namespace.

    Not `ip netns exec`: that remounts /sys and hides the cgroups from kubelet and runc.
    """
    return ["nsenter", f"--net={NETNS_FOLDER / namespace}"]
