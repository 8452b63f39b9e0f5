"""Owns the daemons in the lab's own namespace: etcd, the API server and all that needs no node."""

from __future__ import annotations

import subprocess
import sys

from lab.layout import API_ADDRESS, API_PORT, POD_SUBNET, SERVICE_SUBNET, Layout, enter
from lab.network import name_servers
from lab.paths import REPOSITORY
from lab.processes import Daemons, wait_until
from lab.requirements import LabError

ETCD = "http://127.0.0.1:2379"
READY_SECONDS = 60.0
# An API server waits a minute for its clients' watches to end by themselves: not here.
STOP_SECONDS = 3.0
# The order of starting. The reverse is the order of stopping: an API server that lost its etcd
# hangs a minute on shutdown.
NAMES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "kube-proxy",
    "storage",
)

COREFILE = """\
.:53 {{
  bind {addresses}
  errors
  kubernetes cluster.local in-addr.arpa {{
    endpoint https://{address}:{port}
    tls {pki}/admin.crt {pki}/admin.key {pki}/ca.crt
    ttl 5
  }}
  cache 5
}}
"""


class ControlPlane:
    """The control plane of one lab."""

    def __init__(self, layout: Layout, daemons: Daemons) -> None:
        self._layout = layout
        self._daemons = daemons

    def up(self) -> None:
        """Start what does not run and wait until the API server is ready."""
        self.start("etcd")
        self.start("kube-apiserver")
        self.wait_ready()
        for name in NAMES:
            self.start(name)

    def down(self) -> None:
        for name in reversed(NAMES):
            self.stop(name)

    def start(self, name: str) -> bool:
        """Start one daemon unless it runs."""
        corefile = self._layout.run / "Corefile"
        corefile.write_text(
            COREFILE.format(
                address=API_ADDRESS,
                addresses=" ".join([API_ADDRESS, *name_servers()]),
                port=API_PORT,
                pki=self._layout.pki,
            )
        )
        environment = {"PYTHONPATH": str(REPOSITORY)} if name == "storage" else None
        return self._daemons.start(name, self._command(name), self._layout.name, environment)

    def stop(self, name: str) -> bool:
        """End one daemon if it runs."""
        if name not in NAMES:
            raise LabError(f"The control plane has no {name!r}: it has {', '.join(NAMES)}.")
        return self._daemons.stop(name, STOP_SECONDS)

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        answer = subprocess.run(
            [
                *enter(self._layout.name),
                str(self._layout.cache.bin / "kubectl"),
                f"--kubeconfig={self._layout.kubeconfig}",
                "--request-timeout=3s",
                "get",
                "--raw=/readyz",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        return answer.returncode == 0

    def wait_ready(self) -> None:
        def ready_or_dead() -> bool:
            for name in ("etcd", "kube-apiserver"):
                if self._daemons.get(name) is None:
                    raise LabError(f"{name} died at start: {self._daemons.last_words(name)}")
            return self.ready()

        wait_until(
            ready_or_dead,
            READY_SECONDS,
            lambda: (
                "the API server is not ready, its log ends with "
                + self._daemons.last_words("kube-apiserver")
            ),
        )

    def _command(self, name: str) -> list[str]:
        layout, pki = self._layout, self._layout.pki
        program = str(layout.cache.bin / name)
        if name == "etcd":
            return [
                program,
                f"--data-dir={layout.run / 'etcd'}",
                f"--listen-client-urls={ETCD}",
                f"--advertise-client-urls={ETCD}",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",
            ]
        if name == "kube-apiserver":
            return [
                program,
                f"--etcd-servers={ETCD}",
                f"--advertise-address={API_ADDRESS}",
                f"--secure-port={API_PORT}",
                f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key",
                f"--client-ca-file={pki}/ca.crt",
                f"--service-account-key-file={pki}/sa.key",
                f"--service-account-signing-key-file={pki}/sa.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-cluster-ip-range={SERVICE_SUBNET}",
                "--authorization-mode=Node,RBAC",
                # PodSecurity, among others, is on by default.
                "--enable-admission-plugins=NodeRestriction",
                f"--kubelet-client-certificate={pki}/kubelet-client.crt",
                f"--kubelet-client-key={pki}/kubelet-client.key",
                "--allow-privileged=true",
                # By name `kubectl exec` would try to resolve the node in DNS.
                "--kubelet-preferred-address-types=InternalIP",
            ]
        if name == "kube-controller-manager":
            kubeconfig = pki / "controller-manager.kubeconfig"
            return [
                program,
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                f"--service-account-private-key-file={pki}/sa.key",
                f"--root-ca-file={pki}/ca.crt",
                "--use-service-account-credentials",
                "--leader-elect=false",
            ]
        if name == "kube-scheduler":
            return [program, f"--kubeconfig={pki}/scheduler.kubeconfig", "--leader-elect=false"]
        if name == "coredns":
            return [program, "-conf", str(layout.run / "Corefile")]
        if name == "kube-proxy":
            # So that ClusterIPs work for the programs and tests that run in this namespace. It
            # waits for a node of its name, so it borrows the first one's.
            return proxy_command(layout, layout.node_name(1), API_ADDRESS)
        if name == "storage":
            return [
                sys.executable,
                "-m",
                "lab.storage",
                f"--kubeconfig={layout.kubeconfig}",
                f"--root={layout.storage}",
            ]
        raise LabError(f"The control plane has no {name!r}: it has {', '.join(NAMES)}.")


def proxy_command(layout: Layout, host: str, address: str) -> list[str]:
    """kube-proxy as it runs in each namespace from which ClusterIPs are used."""
    return [
        str(layout.cache.bin / "kube-proxy"),
        f"--kubeconfig={layout.pki}/proxy.kubeconfig",
        f"--hostname-override={host}",
        f"--bind-address={address}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={POD_SUBNET}",
        "--healthz-bind-address=127.0.0.1:10256",
        "--metrics-bind-address=127.0.0.1:10249",
        # It may not set the machine's sysctls, and must not.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]
