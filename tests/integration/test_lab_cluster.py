"""The lab itself: a spare cluster of one node comes up, is broken, repaired, and leaves nothing.

It runs beside the cluster that the other tests use, under a name of its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups, images, mounts
from lab.cluster import Lab
from lab.layout import API_ADDRESS, API_PORT, API_SERVICE_ADDRESS, NETNS_FOLDER
from lab.network import namespace_inode
from lab.paths import cache_from_environment
from lab.processes import Process, in_network_namespaces, kill_all, wait_until
from lab.requirements import LabError

pytestmark = pytest.mark.integration

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "still"},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {"name": "c", "image": "docker.io/lab/pause:1", "imagePullPolicy": "Never"}
        ],
    },
}


@pytest.fixture(scope="module")
def pause() -> list[Path]:
    archives = images.build(cache_from_environment())
    return [archive for archive in archives if archive.name == "pause.tar"]


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Lab]:
    lab = Lab(name="spare", nodes=1)
    yield lab
    lab.down()


@pytest.fixture
def lab(module_lab: Lab, pause: list[Path]) -> Lab:
    module_lab.up(pause)
    return module_lab


def daemons_of(lab: Lab) -> dict[str, Process | None]:
    return {name: lab.daemons.get(name) for name in lab.daemons.names()}


def broken(lab: Lab) -> list[str]:
    return [part.name for part in lab.status() if not part.healthy]


def run_pod(lab: Lab, folder: Path) -> None:
    file = folder / "pod.json"
    file.write_text(json.dumps(POD))
    applied = lab.kubectl("apply", "-f", str(file))
    assert applied.returncode == 0, applied.stderr
    waited = lab.kubectl("wait", "--for=condition=Ready", "pod/still", "--timeout=60s")
    assert waited.returncode == 0, waited.stderr


def test_up_is_idempotent(lab: Lab, pause: list[Path]) -> None:
    assert broken(lab) == []
    before = daemons_of(lab)
    lab.up(pause)
    assert daemons_of(lab) == before


def test_up_repairs_what_died_and_keeps_the_data(lab: Lab, pause: list[Path]) -> None:
    lab.kubectl("create", "namespace", "kept")
    victims = ["etcd", "kube-apiserver", "spare-node1-kubelet", "spare-node1-containerd"]
    found = daemons_of(lab)
    kill_all(process for name in victims if (process := found[name]))
    assert set(victims) <= set(broken(lab))
    lab.up(pause)
    assert broken(lab) == []
    assert lab.kubectl("get", "namespace", "kept").returncode == 0


def test_up_starts_afresh_when_a_namespace_is_gone(lab: Lab, pause: list[Path]) -> None:
    subprocess.run(["ip", "netns", "delete", "spare-node1"], check=True)
    lab.up(pause)
    assert broken(lab) == []


def reachable(prefix: list[str], address: str, port: int) -> bool:
    """Whether a connection to the address can be opened inside a namespace."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), 2)"
    asked = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True)
    return asked.returncode == 0


def test_cut_node_and_mend(lab: Lab) -> None:
    kubelet = (lab.layout.node_address(1), 10250)
    assert reachable(lab.exec_prefix(), *kubelet)
    lab.cut_node(1)
    try:
        assert not reachable(lab.exec_prefix(), *kubelet)
    finally:
        lab.mend_node(1)
    wait_until(
        lambda: reachable(lab.exec_prefix(), *kubelet),
        30,
        lambda: "the node does not answer after it was mended",
    )


def test_cut_only_the_api(lab: Lab) -> None:
    api, dns = (API_ADDRESS, API_PORT), (API_ADDRESS, 53)
    node = lab.node_prefix(1)
    assert reachable(node, *api) and reachable(node, *dns)
    lab.faults.cut_node_api(1)
    try:
        assert not reachable(node, *api)
        assert reachable(node, *dns)
    finally:
        lab.faults.mend_all()
    assert reachable(node, *api)


def test_names_resolve_in_the_lab_as_in_a_pod(lab: Lab) -> None:
    for name in ("kubernetes.default", "kubernetes.default.svc"):
        asked = subprocess.run(
            [*lab.exec_prefix(), "getent", "hosts", name],
            env=lab.env(),
            capture_output=True,
            text=True,
        )
        assert asked.stdout.split()[:1] == [API_SERVICE_ADDRESS], asked
    assert reachable(lab.exec_prefix(), API_SERVICE_ADDRESS, 443)


def test_nothing_leaves_the_machine(lab: Lab) -> None:
    # A documentation address: no route in the lab's own namespace, and no way out of it.
    routes = subprocess.run(
        ["ip", "-n", lab.layout.name, "route", "get", "192.0.2.1"], capture_output=True, text=True
    )
    assert "unreachable" in routes.stderr
    assert not reachable(lab.node_prefix(1), "192.0.2.1", 443)


def test_freeze_kill_and_name_a_container(lab: Lab, tmp_path: Path) -> None:
    run_pod(lab, tmp_path)
    container = lab.container("still")
    (first,) = container.processes()
    with container.frozen():
        # The signal is pending as long as the container stands still.
        assert container.signal(signal.SIGKILL, first=True) == [first.pid]
        assert first.alive()
    wait_until(lambda: not first.alive(), 10, lambda: "the process outlived SIGKILL")
    with pytest.raises(LabError, match="Cannot find pod default/nobody"):
        lab.container("nobody")


def test_hang_and_wake_the_api_server(lab: Lab) -> None:
    lab.faults.hang("kube-apiserver")
    try:
        assert not lab.control_plane.ready()
    finally:
        lab.faults.wake("kube-apiserver")
    lab.control_plane.wait_ready()
    with pytest.raises(LabError, match="'nobody' does not run"):
        lab.faults.hang("nobody")


def test_stop_and_start_the_api_server(lab: Lab) -> None:
    assert lab.control_plane.stop("kube-apiserver") is True
    assert not lab.control_plane.ready()
    lab.control_plane.start("kube-apiserver")
    lab.control_plane.wait_ready()


def test_down_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    run_pod(lab, tmp_path)
    lab.container("still").freeze()
    inodes = list(lab.network.inodes().values())
    daemons = [process for process in daemons_of(lab).values() if process]
    assert len(inodes) == 2 and len(daemons) >= 9
    lab.down()
    assert not lab.layout.run.exists()
    assert not any(process.alive() for process in daemons)
    assert in_network_namespaces(inodes) == []
    assert cgroups.processes("spare-node1") == []
    assert [h for h in cgroups.hierarchies() if (h / "spare-node1").exists()] == []
    assert mounts.below(lab.layout.run) == []
    assert [name for name in lab.layout.namespaces if (NETNS_FOLDER / name).exists()] == []
    loops = subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True)
    assert str(lab.layout.run) not in loops.stdout
    assert list(Path("/var/lib/cni").glob("results/pgha-spare-*")) == []
    lab.down()


def test_down_cleans_up_after_a_killed_lab(lab: Lab, tmp_path: Path) -> None:
    run_pod(lab, tmp_path)
    kill_all(process for process in daemons_of(lab).values() if process)
    assert cgroups.processes("spare-node1") != []
    lab.down()
    assert cgroups.processes("spare-node1") == []
    assert mounts.below(lab.layout.run) == []


def test_a_strangers_namespace_is_left_alone(tmp_path: Path) -> None:
    subprocess.run(["ip", "netns", "add", "alien"], check=True)
    try:
        inode = namespace_inode("alien")
        stranger = Lab(tmp_path, name="alien", nodes=1)
        with pytest.raises(LabError, match="alien exists and this lab did not make it"):
            stranger.network.up()
        stranger.down()
        assert namespace_inode("alien") == inode
    finally:
        subprocess.run(["ip", "netns", "delete", "alien"], check=True)
