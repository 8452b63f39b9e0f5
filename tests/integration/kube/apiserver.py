"""A private kube-apiserver with etcd on loopback, for tests. Owns both processes and their folder.

No kubelet, no controllers, no scheduler: objects stay as they are written. RBAC is on. Admin is a
client certificate in a kubeconfig; further users are static tokens.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pgha.kube.client import Api, ApiError, NotFound

AGENT_TOKEN = "agent-token"
NAMESPACE = "demo"


def tool(name: str) -> str:
    """A binary of the lab's cache; raises RuntimeError naming the command that builds it."""
    cache = Path(os.environ.get("PGHA_CACHE", Path.home() / ".cache" / "pgha"))
    found = cache / "bin" / name
    if not os.access(found, os.X_OK):
        raise RuntimeError(f"{found} is missing: build it with `python -m lab build`")
    return str(found)


class ApiServer:
    """`url`, `ca`, `kubeconfig` and `admin` are usable after `start`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pgha-api-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._etcd_port, self._port = _free_ports(2)
        self.url = f"https://127.0.0.1:{self._port}"
        self.ca = self._folder / "ca.crt"
        self.client_cert = (self._folder / "admin.crt", self._folder / "admin.key")
        self.kubeconfig = self._folder / "kubeconfig.json"

    def start(self) -> ApiServer:
        try:
            self._certificates()
            self._start_etcd()
            self.start_api()
            self.admin.request(
                "POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}, timeout=10
            )
        except BaseException:
            self.stop()
            raise
        return self

    def start_api(self) -> None:
        """Start (or start again) the API server and wait until it is ready."""
        f = self._folder
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1", f"--secure-port={self._port}",
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--tls-cert-file={f}/api.crt", f"--tls-private-key-file={f}/api.key",
            f"--client-ca-file={f}/ca.crt", f"--service-account-key-file={f}/api.key",
            f"--service-account-signing-key-file={f}/api.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC",
            f"--token-auth-file={f}/tokens.csv", "--profiling=false",
            "--disable-admission-plugins=ServiceAccount", f"--cert-dir={f}",
        )  # fmt: skip
        self.admin = Api.from_kubeconfig(self.kubeconfig)
        deadline = time.monotonic() + 90
        while True:
            try:
                # /readyz answers plain text, so ask for something that is there when it is ready.
                self.admin.request(
                    "GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin"
                )
                self.admin.request("GET", "/api/v1/namespaces/default")
                return
            except ApiError as error:
                if time.monotonic() > deadline or self._processes[-1].poll() is not None:
                    raise RuntimeError(
                        f"kube-apiserver is not ready ({error}): {self._tail()}"
                    ) from error
                time.sleep(0.2)

    def stop_api(self) -> None:
        """Kill the API server: its orderly end waits for watches."""
        process = self._processes.pop()
        process.kill()
        process.wait()

    def stop(self) -> None:
        while self._processes:
            self.stop_api()
        shutil.rmtree(self._folder, ignore_errors=True)

    def agent(self, base: str | None = None) -> Api:
        """The API as the user "agent" (no rights but those a test grants), maybe via a proxy."""
        return Api(base or self.url, lambda: AGENT_TOKEN, self.ca, NAMESPACE)

    def empty(self) -> None:
        """Delete what earlier tests left in the namespace."""
        for path in ("/api/v1/namespaces/demo/pods", "/api/v1/namespaces/demo/events",
                     "/apis/coordination.k8s.io/v1/namespaces/demo/leases",
                     "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/roles",
                     "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/rolebindings"):
            self.admin.request("DELETE", path, {"gracePeriodSeconds": 0})  # fmt: skip

    def pod(self, name: str, **metadata: object) -> dict[str, object]:
        """Create a pod (again) that nobody runs; answers the object."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        try:
            self.admin.request("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 0})
        except NotFound:
            pass  # it is a new one
        body = {
            "metadata": {"name": name, "labels": {"app": "x"}, **metadata},
            "spec": {"containers": [{"name": "postgres", "image": "postgres:15"}]},
        }
        return self.admin.request("POST", path, body)

    def _start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self._etcd_port}"
        self._run(
            "etcd", f"--data-dir={self._folder}/etcd", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", "--listen-peer-urls=http://127.0.0.1:0",
            "--unsafe-no-fsync", "--log-level=error",
        )  # fmt: skip

    def _run(self, name: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as out:
            self._processes.append(
                subprocess.Popen(
                    [tool(name), *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
            )

    def _tail(self) -> str:
        text = (self._folder / "kube-apiserver.log").read_text(errors="replace")
        return text[-1500:]

    def _certificates(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        ca = _certificate(name, name, key.public_key(), key, ca=True)
        self._write("ca", ca, key)
        for file, subject in (
            ("api", [x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]),
            ("admin", [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
                       x509.NameAttribute(NameOID.COMMON_NAME, "admin")]),
        ):  # fmt: skip
            own = ec.generate_private_key(ec.SECP256R1())
            made = _certificate(x509.Name(subject), name, own.public_key(), key, ca=False)
            self._write(file, made, own)
        (self._folder / "tokens.csv").write_text(f"{AGENT_TOKEN},agent,agent\n")
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {
                "cluster": "test", "user": "admin", "namespace": NAMESPACE}}],
            "clusters": [{"name": "test", "cluster": {
                "server": self.url, "certificate-authority": "ca.crt"}}],
            "users": [{"name": "admin", "user": {
                "client-certificate": "admin.crt", "client-key": "admin.key"}}],
        }))  # fmt: skip

    def _write(self, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        encoding = serialization.Encoding.PEM
        (self._folder / f"{name}.crt").write_bytes(cert.public_bytes(encoding))
        (self._folder / f"{name}.key").write_bytes(
            key.private_bytes(
                encoding, serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    ca: bool,
) -> x509.Certificate:
    import ipaddress

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports

