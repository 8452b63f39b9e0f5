"""Server and client over loopback with real mutual TLS; strangers and nonsense are kept out."""

from __future__ import annotations

import datetime
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pgha.http.wire import Request
from pgha.peers.client import PeerClient, PeerUnreachable
from pgha.peers.server import MAX_BODY, MAX_THREADS, PeerServer
from pgha.peers.tls import TlsFiles, own_name

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"


class Ca:
    """Makes the files of the Secret NAME-members."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        self.cert = self._sign(self.name, self.key, [], ca=True)

    def member(self, folder: Path, cluster: str = "db") -> TlsFiles:
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster}-member")])
        names = [f"*.{cluster}-pods.demo.svc", f"{cluster}-pods"]
        cert = self._sign(subject, key, names, ca=False)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for name, data in (("ca.crt", self.cert.public_bytes(pem)),
                           ("member.crt", cert.public_bytes(pem)), ("member.key", private)):
            (folder / name).write_bytes(data)  # fmt: skip
        return TlsFiles.in_folder(folder)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: list[str], ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternative, critical=False)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture(scope="module")
def ca() -> Ca:
    return Ca()


@pytest.fixture
def files(ca: Ca, tmp_path: Path) -> TlsFiles:
    return ca.member(tmp_path / "own")


class Slow:
    """A handler that waits until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        self.entered.release()
        self.release.wait(20)
        return {}


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def server(files: TlsFiles, slow: Slow) -> Iterator[PeerServer]:
    def refuse(body: dict[str, Any]) -> dict[str, Any]:
        raise ValueError('VoteRequest lacks "term"')

    def fail(body: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("a secret detail")

    made = PeerServer(HOST, 0, files, {
        "/echo": lambda body: {"got": body}, "/refuse": refuse, "/fail": fail, "/slow": slow,
        "/length": lambda body: {"length": len(body["a"])},
        "/large": lambda body: {"x": "y" * (80 * 1024)},
    }).start()  # fmt: skip
    yield made
    slow.release.set()
    made.stop()


@pytest.fixture
def client(server: PeerServer, files: TlsFiles) -> PeerClient:
    return PeerClient(files, server.port)


def raw(server: PeerServer, files: TlsFiles, data: bytes) -> bytes:
    """What comes back for `data` from a member that speaks nonsense."""
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(files.cert, files.key)
    with socket.create_connection((HOST, server.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname="db-pods") as secured:
            secured.sendall(data)
            answer = b""
            while part := secured.recv(65536):
                answer += part
            return answer


@pytest.mark.parametrize(("host", "shown"), [(HOST, HOST), ("::1", "[::1]")])
def test_a_call_by_either_family(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch, host: str, shown: str
) -> None:
    """The certificate bears names: the address that is called has no part in it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    asked: list[str] = []
    answer = PeerServer._answer

    def noting(self: PeerServer, request: Request) -> tuple[int, dict[str, Any]]:
        asked.append(request.headers["host"])
        return answer(self, request)

    monkeypatch.setattr(PeerServer, "_answer", noting)
    server = PeerServer("", 0, files, {"/echo": lambda body: {"got": body}}).start()
    try:
        client = PeerClient(files, server.port)
        assert client.call(host, "/echo", {"a": 1}) == {"got": {"a": 1}}
        assert client.call_all({"db-1": host}, "/echo", {}) == {"db-1": {"got": {}}}
    finally:
        server.stop()
    assert asked == [shown, shown]


def test_a_call(client: PeerClient) -> None:
    assert client.call(HOST, "/echo", {"a": [1, "ü"]}) == {"got": {"a": [1, "ü"]}}
    assert client.call(HOST, "/echo", None) == {"got": {}}
    assert client.call("localhost", "/echo", None) == {"got": {}}


def test_the_largest_body(client: PeerClient) -> None:
    body = {"a": "x" * (MAX_BODY - 10)}
    assert len(json.dumps(body)) == MAX_BODY - 1
    with pytest.raises(PeerUnreachable, match="answered more than"):
        client.call(HOST, "/large", {})
    assert client.call(HOST, "/length", body) == {"length": MAX_BODY - 10}
    with pytest.raises(PeerUnreachable, match="too many"):
        client.call(HOST, "/echo", {"a": "x" * MAX_BODY})


def test_refusals_carry_their_sentence(client: PeerClient, caplog: Any) -> None:
    with pytest.raises(PeerUnreachable, match='VoteRequest lacks "term"') as caught:
        client.call(HOST, "/refuse", {})
    assert caught.value.status == 400
    with pytest.raises(PeerUnreachable, match="there is no /none") as caught:
        client.call(HOST, "/none", {})
    assert caught.value.status == 404
    caplog.set_level(logging.CRITICAL, logger="pgha.peers.server")
    with pytest.raises(PeerUnreachable, match="/fail failed") as caught:
        client.call(HOST, "/fail", {})
    assert caught.value.status == 500 and "secret" not in str(caught.value)


def test_nobody_listens(files: TlsFiles) -> None:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(PeerUnreachable, match="refused"):
        PeerClient(files, port).call(HOST, "/echo", {})


def test_a_name_that_does_not_exist(client: PeerClient) -> None:
    with pytest.raises(PeerUnreachable, match=r"no-such-host\.invalid"):
        client.call("no-such-host.invalid", "/echo", {}, timeout=5)


def test_a_silent_peer_costs_the_timeout(client: PeerClient, slow: Slow) -> None:
    with pytest.raises(PeerUnreachable, match="no answer"):
        client.call(HOST, "/slow", {}, timeout=0.3)


def test_a_peer_that_accepts_and_says_nothing(files: TlsFiles) -> None:
    with socket.create_server((HOST, 0)) as mute:
        with pytest.raises(PeerUnreachable, match="no answer"):
            PeerClient(files, mute.getsockname()[1]).call(HOST, "/echo", {}, timeout=0.3)


def test_all_at_once(client: PeerClient, slow: Slow) -> None:
    hosts = {"a": HOST, "b": "localhost", "c": "no-such-host.invalid"}
    answers = client.call_all(hosts, "/echo", {"n": 1}, timeout=5)
    assert set(answers) == set(hosts)
    assert answers["a"] == answers["b"] == {"got": {"n": 1}}
    assert isinstance(answers["c"], PeerUnreachable)
    late = client.call_all({"a": HOST, "b": HOST}, "/slow", {}, timeout=0.3)
    assert all(isinstance(each, PeerUnreachable) for each in late.values()) and len(late) == 2
    assert client.call_all({}, "/echo") == {}


def test_a_stranger_gets_nothing(server: PeerServer, tmp_path: Path) -> None:
    stranger = PeerClient(Ca().member(tmp_path / "other"), server.port)
    with pytest.raises(PeerUnreachable, match="certificate verify failed"):
        stranger.call(HOST, "/echo", {})


def test_a_stranger_that_trusts_us_gets_nothing(
    server: PeerServer, files: TlsFiles, tmp_path: Path
) -> None:
    other = Ca().member(tmp_path / "other")
    mixed = TlsFiles(files.ca, other.cert, other.key)
    with pytest.raises(PeerUnreachable):
        PeerClient(mixed, server.port).call(HOST, "/echo", {})
    context = ssl.create_default_context(cafile=str(files.ca))  # no certificate at all
    with socket.create_connection((HOST, server.port), 10) as plain:
        with pytest.raises(OSError):
            with context.wrap_socket(plain, server_hostname="db-pods") as secured:
                secured.sendall(b"GET /echo HTTP/1.1\r\n\r\n")
                assert secured.recv(1000) == b""
                raise ConnectionError("nothing came back")


def test_a_member_of_another_cluster_of_the_same_ca(
    server: PeerServer, ca: Ca, tmp_path: Path
) -> None:
    other = PeerClient(ca.member(tmp_path / "other", "shop"), server.port)
    with pytest.raises(PeerUnreachable, match="certificate verify failed"):
        other.call(HOST, "/echo", {})


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n", b"GET\r\n\r\n", b"GET /echo\r\n\r\n", b"GET /echo SMTP/1.1\r\n\r\n",
        b"BREW /echo HTTP/1.1\r\n\r\n", b"GET echo HTTP/1.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\n{",
        b"POST /echo HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + b"[" * 5000,
        b"GET /echo HTTP/1.1\r\nno colon\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /echo HTTP/1.1\r\n" + b"a: b\r\n" * 50000,
        b"POST /echo HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000,
    ],
)  # fmt: skip
def test_nonsense_is_answered(server: PeerServer, files: TlsFiles, data: bytes) -> None:
    answer = raw(server, files, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] in (b"400", b"405", b"413")
    assert "Traceback" not in body.decode() and json.loads(body)["error"]


def test_it_serves_on_after_a_flood(
    server: PeerServer, client: PeerClient, slow: Slow
) -> None:
    threads = [
        threading.Thread(target=_quietly, args=(client, "/slow")) for _ in range(MAX_THREADS)
    ]
    for each in threads:
        each.start()
    for _ in threads:
        assert slow.entered.acquire(timeout=20)
    with pytest.raises(PeerUnreachable, match="/echo failed"):
        client.call(HOST, "/echo", {})  # all threads are taken: turned away, not queued
    slow.release.set()
    for each in threads:
        each.join(20)
    deadline = time.monotonic() + 20
    while True:
        try:
            assert client.call(HOST, "/echo", {"a": 1}) == {"got": {"a": 1}}
            return
        except PeerUnreachable:
            assert time.monotonic() < deadline


def _quietly(client: PeerClient, path: str) -> None:
    try:
        client.call(HOST, path, {}, timeout=15)
    except PeerUnreachable:
        pass  # its outcome is not what is tested


def test_renewed_certificates_are_used_without_a_restart(
    server: PeerServer, client: PeerClient, files: TlsFiles, tmp_path: Path
) -> None:
    assert client.call(HOST, "/echo", {}) == {"got": {}}
    new = Ca()
    renewed = PeerClient(new.member(tmp_path / "new"), server.port)
    with pytest.raises(PeerUnreachable):
        renewed.call(HOST, "/echo", {})
    new.member(files.ca.parent)  # the Secret is updated in place
    assert renewed.call(HOST, "/echo", {}) == {"got": {}}
    assert client.call(HOST, "/echo", {}) == {"got": {}}


def test_half_written_certificates_keep_the_old_ones(
    server: PeerServer, client: PeerClient, files: TlsFiles
) -> None:
    assert client.call(HOST, "/echo", {}) == {"got": {}}
    good = files.cert.read_bytes()
    files.cert.write_bytes(good[:100])
    assert client.call(HOST, "/echo", {}) == {"got": {}}
    files.cert.write_bytes(good)
    assert client.call(HOST, "/echo", {}) == {"got": {}}


def test_bad_files_are_the_starters_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        PeerServer(HOST, 0, TlsFiles.in_folder(tmp_path), {})


def test_the_expected_name_is_that_of_the_own_cluster(files: TlsFiles) -> None:
    assert own_name(files.cert) == "db-pods"


def test_stop_frees_the_port(server: PeerServer, client: PeerClient) -> None:
    server.stop()
    with pytest.raises(PeerUnreachable):
        client.call(HOST, "/echo", {})
    with socket.create_server((HOST, server.port)):
        pass  # it can be taken again
