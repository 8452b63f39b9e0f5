"""The lab's disks on this kernel, and their provisioner against a real API server.

No controller runs beside the API server: the test binds and releases volumes as
kube-controller-manager would.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from lab.disks import DiskError, Disks, loop_devices, mounts_below
from lab.storage import PROVISIONER, cleanup, readable
from tests.integration.kube.apiserver import ApiServer

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20
DEADLINE = 30.0
REPOSITORY = Path(__file__).resolve().parents[2]


def eventually(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first true answer of the condition."""
    end = time.monotonic() + deadline
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(0.05)
    return answer


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "storage"
    yield folder
    cleanup(folder)
    assert mounts_below(folder) == []
    assert not folder.exists()


@pytest.fixture
def disks(root: Path) -> Disks:
    return Disks(root)


def write_as_postgres(folder: Path, name: str, size: int) -> None:
    """Write a file as user 999; raises OSError."""
    script = (
        "import os, sys; os.setgid(999); os.setuid(999);"
        "f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY);\n"
        "try: [os.write(f, bytes(1 << 20)) for _ in range(int(sys.argv[2]))]; os.fsync(f)\n"
        "except OSError as e: sys.exit(e.errno)"
    )
    # The test's own folder is closed to other users, so hand the folder over open.
    handle = os.open(folder, os.O_RDONLY)
    try:
        result = subprocess.run(
            [sys.executable, "-I", "-c", script, name, str(size // MEBIBYTE)],
            preexec_fn=lambda: os.fchdir(handle),
            capture_output=True,
        )
    finally:
        os.close(handle)
    if result.returncode:
        raise OSError(result.returncode, result.stderr.decode())


def test_a_disk_is_written_by_anybody_and_fills_at_its_size(disks: Disks) -> None:
    assert disks.provide("a", 1) == 300 * MEBIBYTE
    point = disks.mount_point("a")
    write_as_postgres(point, "some", 100 * MEBIBYTE)
    with pytest.raises(OSError) as full:
        write_as_postgres(point, "more", 250 * MEBIBYTE)
    assert full.value.errno == errno.ENOSPC


def test_providing_again_changes_nothing_and_mounts_what_was_unmounted(disks: Disks) -> None:
    disks.provide("a", 1)
    (disks.mount_point("a") / "kept").write_text("x")
    disks.provide("a", 1)
    assert len(mounts_below(disks.root)) == 1
    subprocess.run(["umount", str(disks.mount_point("a"))], check=True)
    disks.provide("a", 1)
    assert (disks.mount_point("a") / "kept").read_text() == "x"


def test_without_its_disk_a_mount_point_takes_no_writes(disks: Disks) -> None:
    disks.provide("a", 1)
    subprocess.run(["umount", str(disks.mount_point("a"))], check=True)
    with pytest.raises(OSError):
        write_as_postgres(disks.mount_point("a"), "lost", MEBIBYTE)


def test_a_disk_cut_short_while_made_is_made_anew(disks: Disks) -> None:
    (disks.root / "a").mkdir(parents=True)
    (disks.root / "a" / "disk.unfinished").write_text("half")
    disks.provide("a", 1)
    assert disks.mounted("a")


def test_a_disk_grows_while_it_is_written(disks: Disks) -> None:
    disks.provide("a", 1)
    point = disks.mount_point("a")
    with (point / "open").open("w") as handle:
        assert disks.grow("a", 500 * MEBIBYTE) == 500 * MEBIBYTE
        handle.write("still here")
    write_as_postgres(point, "more", 400 * MEBIBYTE)
    assert disks.grow("a", 400 * MEBIBYTE) == 500 * MEBIBYTE


def test_a_disk_in_use_is_not_removed(disks: Disks) -> None:
    disks.provide("a", 1)
    with (disks.mount_point("a") / "open").open("w"), pytest.raises(DiskError, match="busy"):
        disks.remove("a")
    assert disks.mounted("a")
    disks.remove("a")
    assert disks.names() == []


def test_cleanup_takes_used_and_frozen_disks_away(disks: Disks) -> None:
    for name in ("used", "frozen"):
        disks.provide(name, 1)
    subprocess.run(["fsfreeze", "--freeze", str(disks.mount_point("frozen"))], check=True)
    with (disks.mount_point("used") / "open").open("w"):
        cleanup(disks.root)
        assert mounts_below(disks.root) == []
    eventually(lambda: not loop_devices(disks.root), "loop devices are detached")


@pytest.mark.parametrize(
    ("size", "text"),
    [(1 << 30, "1Gi"), (300 << 20, "300Mi"), (1000, "1000"), (1536 << 20, "1536Mi")],
)
def test_sizes_are_written_as_people_write_them(size: int, text: str) -> None:
    assert readable(size) == text


class Cluster:
    """The API server, the provisioner's process, and the part of the controllers."""

    def __init__(self, server: ApiServer, root: Path) -> None:
        self.server = server
        self.root = root
        self._process: subprocess.Popen[str] | None = None
        self.log = root.with_name("provisioner.log")
        config.load_kube_config(str(server.kubeconfig))
        self.core = client.CoreV1Api()

    def start(self) -> None:
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "lab.storage"),
                    *("--kubeconfig", str(self.server.kubeconfig), "--root", str(self.root)),
                ],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(10)

    def claim(self, name: str, storage_class: str = "standard", **spec: Any) -> None:
        body = {
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": storage_class,
                "resources": {"requests": {"storage": "400Mi"}},
                **spec,
            },
        }
        self.core.create_namespaced_persistent_volume_claim("default", body)

    def read_claim(self, name: str) -> Any:
        return self.core.read_namespaced_persistent_volume_claim(name, "default")

    def volume(self, name: str) -> Any:
        """The volume made for a claim, or None."""
        uid = self.read_claim(name).metadata.uid
        try:
            return self.core.read_persistent_volume(f"pvc-{uid}")
        except client.ApiException:
            return None

    def bind(self, name: str) -> Any:
        """What kube-controller-manager does once the volume is there; returns the volume."""
        volume = eventually(lambda: self.volume(name), f"volume for claim {name}: {self.tail()}")
        self.core.patch_namespaced_persistent_volume_claim(
            name, "default", {"spec": {"volumeName": volume.metadata.name}}
        )
        status = {"phase": "Bound", "capacity": volume.spec.capacity}
        self.core.patch_namespaced_persistent_volume_claim_status(
            name, "default", {"status": status}
        )
        self.core.patch_persistent_volume_status(
            volume.metadata.name, {"status": {"phase": "Bound"}}
        )
        return volume

    def delete_claim(self, name: str) -> None:
        self.core.delete_namespaced_persistent_volume_claim(name, "default")
        self.core.patch_namespaced_persistent_volume_claim(
            name, "default", {"metadata": {"finalizers": None}}
        )

    def volume_gone(self, name: str) -> bool:
        """Whether a volume is gone or only its protection by the controllers is left."""
        try:
            volume = self.core.read_persistent_volume(name)
        except client.ApiException as error:
            return bool(error.status == 404)
        return volume.metadata.deletion_timestamp is not None

    def tail(self) -> str:
        return self.log.read_text()[-1000:] if self.log.exists() else "no log"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    started = ApiServer().start()
    yield started
    started.stop()


@pytest.fixture
def cluster(server: ApiServer, root: Path) -> Iterator[Cluster]:
    made = Cluster(server, root)
    made.start()
    eventually(lambda: "provisioning below" in made.tail(), "provisioner is up")
    yield made
    for claim in made.core.list_namespaced_persistent_volume_claim("default").items:
        made.delete_claim(claim.metadata.name)
    assert made.stop() == 0
    for volume in made.core.list_persistent_volume().items:
        made.core.patch_persistent_volume(volume.metadata.name, {"metadata": {"finalizers": None}})
        if volume.metadata.deletion_timestamp is None:
            made.core.delete_persistent_volume(volume.metadata.name)


def test_the_classes_are_there_and_standard_is_the_default(cluster: Cluster) -> None:
    found = {
        entry.metadata.name: entry for entry in client.StorageV1Api().list_storage_class().items
    }
    assert set(found) == {"standard", "fixed"}
    assert found["standard"].allow_volume_expansion is True
    assert found["fixed"].allow_volume_expansion is False
    assert {entry.provisioner for entry in found.values()} == {PROVISIONER}
    defaults = {
        name: entry.metadata.annotations["storageclass.kubernetes.io/is-default-class"]
        for name, entry in found.items()
    }
    assert defaults == {"standard": "true", "fixed": "false"}


def test_a_claim_gets_a_mounted_disk_that_only_it_can_bind(cluster: Cluster) -> None:
    cluster.claim("data")
    volume = cluster.bind("data")
    assert volume.spec.capacity == {"storage": "400Mi"}
    assert volume.spec.claim_ref.uid == cluster.read_claim("data").metadata.uid
    assert volume.spec.persistent_volume_reclaim_policy == "Delete"
    assert Path(volume.spec.host_path.path) in mounts_below(cluster.root)
    write_as_postgres(Path(volume.spec.host_path.path), "x", MEBIBYTE)


def test_a_claim_of_another_class_is_left_alone(cluster: Cluster) -> None:
    cluster.claim("foreign", "elsewhere")
    cluster.claim("own")
    cluster.bind("own")
    assert cluster.volume("foreign") is None


def test_a_block_claim_is_refused_with_an_event(cluster: Cluster) -> None:
    cluster.claim("block", volumeMode="Block")

    def told() -> bool:
        events = cluster.core.list_namespaced_event("default").items
        return any(e.involved_object.name == "block" and "Filesystem" in e.message for e in events)

    eventually(told, "event about the claim")
    assert cluster.volume("block") is None


def test_a_bound_claim_grows_live(cluster: Cluster) -> None:
    cluster.claim("data")
    path = Path(cluster.bind("data").spec.host_path.path)
    cluster.core.patch_namespaced_persistent_volume_claim(
        "data", "default", {"spec": {"resources": {"requests": {"storage": "600Mi"}}}}
    )
    eventually(
        lambda: cluster.read_claim("data").status.capacity == {"storage": "600Mi"},
        f"the claim tells its new size: {cluster.tail()}",
    )
    assert cluster.volume("data").spec.capacity == {"storage": "600Mi"}
    write_as_postgres(path, "big", 500 * MEBIBYTE)


def test_the_disk_goes_with_its_claim(cluster: Cluster) -> None:
    cluster.claim("data")
    volume = cluster.bind("data")
    cluster.delete_claim("data")
    eventually(lambda: cluster.volume_gone(volume.metadata.name), "volume deleted")
    assert mounts_below(cluster.root) == []
    assert Disks(cluster.root).names() == []


def test_a_disk_in_use_goes_when_its_last_user_does(cluster: Cluster) -> None:
    cluster.claim("data")
    volume = cluster.bind("data")
    with (Path(volume.spec.host_path.path) / "open").open("w"):
        cluster.delete_claim("data")
        eventually(lambda: re.search("busy", cluster.tail()), "the log tells what it waits for")
        assert not cluster.volume_gone(volume.metadata.name)
    eventually(lambda: cluster.volume_gone(volume.metadata.name), "volume deleted")


def test_a_restarted_provisioner_keeps_disks_and_catches_up(cluster: Cluster) -> None:
    cluster.claim("kept")
    cluster.claim("dropped")
    kept, dropped = cluster.bind("kept"), cluster.bind("dropped")
    marker = Path(kept.spec.host_path.path) / "marker"
    marker.write_text("x")
    assert cluster.stop() == 0
    cluster.delete_claim("dropped")
    cluster.claim("new")
    subprocess.run(["umount", kept.spec.host_path.path], check=True)
    cluster.start()
    cluster.bind("new")
    eventually(lambda: cluster.volume_gone(dropped.metadata.name), "volume deleted")
    eventually(marker.exists, "the disk that lost its mount is mounted again")


def test_an_outage_of_the_api_server_changes_no_disk_and_is_caught_up(cluster: Cluster) -> None:
    cluster.claim("kept")
    marker = Path(cluster.bind("kept").spec.host_path.path) / "marker"
    marker.write_text("x")
    cluster.server.stop_api()
    eventually(lambda: "API server:" in cluster.tail(), "the outage is noticed", 90)
    cluster.server.start_api()
    cluster.claim("new")
    cluster.bind("new")
    assert marker.read_text() == "x"
