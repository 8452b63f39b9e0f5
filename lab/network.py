"""Owns the network namespaces of a lab, the bridge and the cables between them.

Nothing here ever touches the machine's own network namespace, so no packet has a way out. A
namespace is only deleted when this lab's record says that it made it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from lab.layout import API_ADDRESS, NETNS_FOLDER, SERVICE_SUBNET, Layout, enter
from lab.requirements import LabError

BRIDGE = "lab0"
RESOLV_CONF = Path("/etc/resolv.conf")


def run(command: list[str]) -> str:
    """Run a program of the system; its complaint becomes the error."""
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if answer.returncode != 0:
        raise LabError(f"`{' '.join(command)}` failed: {answer.stderr.strip()}")
    return answer.stdout


def name_servers() -> list[str]:
    """The IPv4 servers that programs of this machine ask for names; the C library's default."""
    try:
        lines = RESOLV_CONF.read_text().splitlines()
    except FileNotFoundError:
        lines = []
    words = [line.split() for line in lines]
    named = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return [server for server in named if ":" not in server] or ["127.0.0.1"]


def namespace_inode(name: str) -> int | None:
    """The identity of the namespace that is mounted under this name; None if there is none."""
    path = NETNS_FOLDER / name
    mounted = any(
        line.split()[4] == str(path) and " - nsfs " in line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )
    return path.stat().st_ino if mounted else None


class Network:
    """The namespaces of one lab."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._record = layout.run / "namespaces.json"

    def inodes(self) -> dict[str, int]:
        """The namespaces that this lab made, by name."""
        try:
            record: dict[str, int] = json.loads(self._record.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return record

    def whole(self) -> bool:
        """Whether every namespace is there and is the one that this lab made."""
        made = self.inodes()
        return all(
            made.get(name) is not None and made[name] == namespace_inode(name)
            for name in self._layout.namespaces
        )

    def refuse_strangers(self) -> None:
        """Fail if a namespace of our name exists that we did not make."""
        made = self.inodes()
        for name in self._layout.namespaces:
            inode = namespace_inode(name)
            if inode is not None and inode != made.get(name):
                raise LabError(
                    f"Network namespace {name} exists and this lab did not make it: take down the "
                    f"lab that did (PGHA_CACHE=its cache python -m lab down), or delete it with "
                    f"`ip netns delete {name}`, or choose another LAB_NAME."
                )

    def up(self) -> None:
        """Make what is missing and mend what was cut."""
        self.refuse_strangers()
        layout, lab = self._layout, self._layout.name
        for name in layout.namespaces:
            self._make_namespace(name)
        self._bridge_filter()
        if BRIDGE not in self._links(lab):
            run(["ip", "-n", lab, "link", "add", BRIDGE, "type", "bridge"])
        run(["ip", "-n", lab, "address", "replace", f"{API_ADDRESS}/24", "dev", BRIDGE])
        run(["ip", "-n", lab, "link", "set", BRIDGE, "up"])
        # kube-proxy rewrites the destination, but first there must be a route at all.
        run(["ip", "-n", lab, "route", "replace", SERVICE_SUBNET, "dev", BRIDGE])
        # CoreDNS takes the machine's name servers' addresses in here, so that a program which reads
        # the machine's own resolv.conf finds the cluster's names without a mount of another one.
        for server in name_servers():
            run(["ip", "-n", lab, "address", "replace", f"{server}/32", "dev", "lo"])
        for number in layout.numbers:
            self._wire(number)

    def down(self) -> None:
        """Delete the namespaces that this lab made; interfaces and rules go with them."""
        for name, inode in self.inodes().items():
            path = NETNS_FOLDER / name
            present = namespace_inode(name)
            if present == inode:
                run(["ip", "netns", "delete", name])
            elif present is None and path.exists():
                # The mount is gone, after a restart of the machine say: an empty file is left.
                path.unlink()
        self._record.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            NETNS_FOLDER.rmdir()

    def cut(self, number: int) -> None:
        """Take the node off the network; its pods still reach each other."""
        self._layout.node_name(number)
        run(["ip", "-n", self._layout.name, "link", "set", f"v{number}", "down"])

    def mend(self, number: int) -> None:
        """Bring the node back on the network."""
        self._layout.node_name(number)
        run(["ip", "-n", self._layout.name, "link", "set", f"v{number}", "up"])

    def _make_namespace(self, name: str) -> None:
        if namespace_inode(name) is None:
            (NETNS_FOLDER / name).unlink(missing_ok=True)
            run(["ip", "netns", "add", name])
            inode = namespace_inode(name)
            assert inode is not None
            self._record.write_text(json.dumps({**self.inodes(), name: inode}))
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        run([*enter(name), "sysctl", "-qw", "net.ipv4.ip_forward=1"])

    def _bridge_filter(self) -> None:
        """Without it a pod cannot reach a ClusterIP whose endpoint is on its own node."""
        switch = "/proc/sys/net/bridge/bridge-nf-call-iptables"
        if not Path(switch).exists():
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True)
        for number in self._layout.numbers:
            name = self._layout.node_name(number)
            answer = subprocess.run(
                [*enter(name), "sh", "-c", f"echo 1 > {switch}"], capture_output=True, text=True
            )
            if answer.returncode != 0:
                raise LabError(
                    f"Cannot switch on net.bridge.bridge-nf-call-iptables in namespace {name}: "
                    "the kernel lacks br_netfilter, load it with `modprobe br_netfilter` "
                    f"({answer.stderr.strip()})."
                )

    def _wire(self, number: int) -> None:
        layout, lab = self._layout, self._layout.name
        node, cable = layout.node_name(number), f"v{number}"
        if cable not in self._links(lab):
            peer = ["type", "veth", "peer", "name", "eth0", "netns", node]
            run(["ip", "-n", lab, "link", "add", cable, *peer])
        run(["ip", "-n", lab, "link", "set", cable, "master", BRIDGE, "up"])
        address = f"{layout.node_address(number)}/24"
        run(["ip", "-n", node, "address", "replace", address, "dev", "eth0"])
        run(["ip", "-n", node, "link", "set", "eth0", "up"])
        run(["ip", "-n", node, "route", "replace", "default", "via", API_ADDRESS])
        for other in layout.numbers:
            if other == number:
                continue
            via = ["via", layout.node_address(other)]
            run(["ip", "-n", node, "route", "replace", layout.pod_subnet(other), *via])
        via = ["via", layout.node_address(number)]
        run(["ip", "-n", lab, "route", "replace", layout.pod_subnet(number), *via])

    @staticmethod
    def _links(namespace: str) -> set[str]:
        listed = json.loads(run(["ip", "-j", "-n", namespace, "link", "show"]))
        return {link["ifname"] for link in listed}
