"""Owns one node of a lab: containerd, kubelet and kube-proxy in the node's namespace."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

from lab import cgroups, versions
from lab.control_plane import proxy_command
from lab.layout import API_ADDRESS, Layout
from lab.processes import Daemons, wait_until
from lab.requirements import LabError

CNI_PLUGINS = "/usr/lib/cni"
SHIM_SOCKETS = Path("/run/containerd/s")
CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
# Where every kubelet of the machine keeps its device plugins' sockets; it cannot be moved.
KUBELET_FOLDER = Path("/var/lib/kubelet")
SOCKET_SECONDS = 20.0

CONTAINERD = """\
version = 2
root = "{run}/containerd"
state = "{run}/state"
[grpc]
  address = "{run}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{run}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE runc may not lower an oom_score_adj.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{run}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{run}/runc"
"""


class Node:
    """One node."""

    def __init__(self, layout: Layout, daemons: Daemons, number: int) -> None:
        self._layout = layout
        self._daemons = daemons
        self.number = number
        self.name = layout.node_name(number)
        self.run = layout.node_run(number)

    @property
    def daemon_names(self) -> list[str]:
        return [f"{self.name}-{part}" for part in ("containerd", "kubelet", "kube-proxy")]

    def up(self, images: list[Path]) -> None:
        """Start what does not run and import the images that are missing."""
        self._write_config()
        cgroups.make(self.name)
        # The pause image first: with it kubelet can start.
        ordered = sorted(images, key=lambda image: "pause" not in image.name)
        self._start_containerd()
        self.import_images(ordered[:1])
        self.start_kubelet()
        self._daemons.start(
            f"{self.name}-kube-proxy",
            proxy_command(self._layout, self.name, self._layout.node_address(self.number)),
            self.name,
        )
        self.import_images(ordered[1:])

    def start_kubelet(self) -> bool:
        """Start kubelet unless it runs."""
        return self._daemons.start(
            f"{self.name}-kubelet",
            [
                str(self._layout.cache.bin / "kubelet"),
                f"--config={self.run}/kubelet.json",
                f"--kubeconfig={self._layout.pki / self.name}.kubeconfig",
                f"--root-dir={self.run}/kubelet",
                f"--cert-dir={self.run}/certificates",
                f"--hostname-override={self.name}",
                f"--node-ip={self._layout.node_address(self.number)}",
                "--v=1",
            ],
            self.name,
        )

    def kubelet_runs(self) -> bool:
        return self._daemons.get(f"{self.name}-kubelet") is not None

    def stop(self) -> None:
        """End the daemons and every container of the node."""
        for part in ("kubelet", "kube-proxy"):
            self._daemons.stop(f"{self.name}-{part}", 5)
        cgroups.kill(self.name)
        self._daemons.stop(f"{self.name}-containerd", 10)

    def remove_traces(self) -> None:
        """Remove what the node's daemons left outside of the run folder."""
        for sandbox in self.run.glob("state/io.containerd.grpc.v1.cri/sandboxes/*"):
            (CNI_RESULTS / f"cni-loopback-{sandbox.name}-lo").unlink(missing_ok=True)
        for address in self.run.glob("state/*/*/*/address"):
            socket = Path(address.read_text().strip().removeprefix("unix://"))
            if socket.parent == SHIM_SOCKETS:
                socket.unlink(missing_ok=True)
        cgroups.remove(self.name)

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run containerd's own client in Kubernetes' containerd namespace."""
        socket = str(self._layout.node_socket(self.number))
        return subprocess.run(
            ["ctr", "--address", socket, "--namespace", "k8s.io", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def import_images(self, archives: list[Path]) -> list[str]:
        """Import the archives that changed since they were imported; return their names."""
        record = self.run / "images.json"
        try:
            known: dict[str, list[int]] = json.loads(record.read_text())
        except (FileNotFoundError, ValueError):
            known = {}
        imported = []
        for archive in archives:
            status = archive.stat()
            version = [status.st_size, status.st_mtime_ns]
            if known.get(archive.name) == version:
                continue
            answer = self.ctr("images", "import", str(archive))
            if answer.returncode != 0:
                raise LabError(
                    f"{self.name} cannot import the image {archive}: {answer.stderr.strip()}; "
                    "delete that file and run `python -m lab images` to build it again."
                )
            known[archive.name] = version
            record.write_text(json.dumps(known, indent=1))
            imported.append(archive.name)
        return imported

    def _start_containerd(self) -> None:
        name = f"{self.name}-containerd"
        if shutil.which("containerd") is None:
            raise LabError("containerd is not on PATH: `apt-get install containerd` brings it.")
        command = ["containerd", "--config", str(self.run / "containerd.toml")]
        self._daemons.start(name, command, self.name)
        wait_until(
            lambda: self.ctr("version").returncode == 0,
            SOCKET_SECONDS,
            lambda: f"{name} does not answer, its log ends with {self._daemons.last_words(name)}",
        )

    def _write_config(self) -> None:
        for folder in ("cni", "kubelet", "podlogs"):
            (self.run / folder).mkdir(parents=True, exist_ok=True)
        (self._layout.run / "resolv.conf").write_text(f"nameserver {API_ADDRESS}\n")
        (self.run / "containerd.toml").write_text(
            CONTAINERD.format(run=self.run, pause=versions.PAUSE_IMAGE, plugins=CNI_PLUGINS)
        )
        (self.run / "cni" / "10-bridge.conflist").write_text(json.dumps(self._cni(), indent=1))
        (self.run / "kubelet.json").write_text(json.dumps(self._kubelet(), indent=1))

    def _cni(self) -> dict[str, object]:
        return {
            "cniVersion": "0.4.0",
            "name": self._layout.cni_network,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": False,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": f"{self.run}/ipam",
                        "ranges": [[{"subnet": self._layout.pod_subnet(self.number)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def _kubelet(self) -> dict[str, object]:
        pki = self._layout.pki
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self._layout.node_address(self.number),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki / self.name}.crt",
            "tlsPrivateKeyFile": f"{pki / self.name}.key",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.name}",
            "clusterDNS": [API_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{self._layout.run}/resolv.conf",
            "containerRuntimeEndpoint": f"unix://{self._layout.node_socket(self.number)}",
            "podLogsDir": f"{self.run}/podlogs",
            "volumePluginDir": f"{self.run}/volume-plugins",
            # How late a pod sees a changed Secret; a minute is the default.
            "syncFrequency": "10s",
            "failSwapOn": False,
            "failCgroupV1": False,
            "localStorageCapacityIsolation": False,
            # No image can be fetched again here, so none is ever collected.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi"},
        }


def remove_shared_traces(layout: Layout) -> None:
    """Remove what CNI and kubelet left in folders that all labs of a machine share."""
    ours = f"{layout.cni_network}-"
    for result in CNI_RESULTS.glob(f"{ours}*-eth0"):
        sandbox = result.name.removeprefix(ours).removesuffix("-eth0")
        (CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        result.unlink(missing_ok=True)
    for link in CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and Path(link.readlink()).is_relative_to(layout.run):
            link.unlink(missing_ok=True)
    for folder in (CNI_RESULTS, CONTAINER_LOGS, SHIM_SOCKETS):
        with contextlib.suppress(OSError):
            folder.rmdir()
