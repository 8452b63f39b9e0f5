"""TLS of a real server: what clients are shown, renewals, and whom members believe."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import threading
from pathlib import Path

import psycopg
import pytest

from pgha.postgres.certificate import ServerCertificate, Source
from pgha.postgres.conf import REPLICATION_USER
from tests.integration.postgres.inside import LOG, Place
from tests.integration.postgres.nodes import (
    ADDRESS,
    PASSWORD,
    PKI,
    REPLICATION_PASSWORD,
    USERNAME,
    Node,
    eventually,
    one_version,
)

pytestmark = pytest.mark.integration

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def shown(port: int = 5432) -> str:
    """Hash of the certificate that a new session is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((ADDRESS, port), 10) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain) as tls:
            return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def told(name: str) -> str:
    """The same of a file."""
    der = ssl.PEM_cert_to_DER_cert((PKI / f"{name}.crt").read_text())
    return hashlib.sha256(der).hexdigest()


class Mounted:
    """A Secret's volume: kubelet renews it by the swap of one link."""

    def __init__(self, name: str) -> None:
        self.folder = Path("/tmp/tls")
        self.folder.mkdir()
        self._count = 0
        self.publish(name)
        for file in ("tls.crt", "tls.key"):
            (self.folder / file).symlink_to(f"..data/{file}")

    def publish(self, name: str, key: str = "") -> None:
        self._count += 1
        new = self.folder / f"..{self._count}"
        new.mkdir()
        for file, source in (("tls.crt", f"{name}.crt"), ("tls.key", f"{key or name}.key")):
            (new / file).write_bytes((PKI / source).read_bytes())
        link = self.folder / "..new"
        link.symlink_to(new.name)
        link.replace(self.folder / "..data")


def copied(node: Node, mounted: Mounted, said: list[str]) -> ServerCertificate:
    """As the agent makes it; the server is to start with it."""
    made = ServerCertificate(
        Source.of_clients(mounted.folder), Source.of_members(PKI), node.run, said.append
    )
    assert made.refresh()
    node.with_conf(certificate=made.path)
    return made


def looked(certificate: ServerCertificate, node: Node) -> bool:
    """What the agent does with each turn of its loop."""
    renewed = certificate.refresh()
    if renewed:
        node.server.reload()
    return renewed


def test_a_renewed_certificate_is_served_without_a_restart(image: Place) -> None:
    said: list[str] = []
    node, mounted = Node("ha-0"), Mounted("stranger")
    certificate = copied(node, mounted, said)
    node.leading()
    started = node.ask("SELECT pg_postmaster_start_time()::text")
    assert shown() == told("stranger")
    with psycopg.connect(
        host=ADDRESS, user=USERNAME, password=PASSWORD, dbname="postgres", sslmode="require"
    ) as session:
        assert not looked(certificate, node)
        mounted.publish("renewed")
        assert looked(certificate, node)
        eventually("new sessions are shown the new one", lambda: shown() == told("renewed"))
        row = session.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,), "the session that was there goes on"
    with psycopg.connect(
        host="ha-pods", hostaddr=ADDRESS, user=USERNAME, password=PASSWORD, dbname="postgres",
        sslmode="verify-full", sslrootcert=str(PKI / "ca.crt"),
    ):  # fmt: skip
        pass
    assert node.ask("SELECT pg_postmaster_start_time()::text") == started
    assert said == []


@one_version
def test_a_renewed_certificate_reaches_a_warm_standby(image: Place) -> None:
    primary, standby = Node("ha-0").leading(), Node("ha-1", port=5433)
    mounted = Mounted("stranger")
    certificate = copied(standby, mounted, [])
    standby.following(primary)
    receiver = standby.server.receiver()
    assert shown(5433) == told("stranger")
    mounted.publish("renewed")
    assert looked(certificate, standby)
    eventually("it shows the new one", lambda: shown(5433) == told("renewed"))
    standby.catches_up(primary)
    after = standby.server.receiver()
    assert receiver and after and receiver.pid == after.pid, "it goes on receiving"


@one_version
def test_a_pair_that_does_not_fit_is_not_served(image: Place) -> None:
    said: list[str] = []
    node, mounted = Node("ha-0"), Mounted("stranger")
    certificate = copied(node, mounted, said)
    node.leading()
    mounted.publish("renewed", key="member")
    assert not looked(certificate, node)
    assert len(said) == 1
    node.server.reload()
    node.stopped().started()
    assert shown() == told("stranger"), "neither a reload nor a restart sees it"
    mounted.publish("renewed")
    assert looked(certificate, node)
    eventually("the good one", lambda: shown() == told("renewed"))


def test_require_refuses_a_client_without_tls_and_no_member(image: Place) -> None:
    primary = Node("ha-0").with_conf(require_tls=True).leading()
    client = {"host": ADDRESS, "user": USERNAME, "password": PASSWORD, "dbname": "postgres"}
    psycopg.connect(**client, sslmode="require").close()
    with pytest.raises(psycopg.OperationalError, match="pg_hba.conf"):
        psycopg.connect(**client, sslmode="disable")
    standby = Node("ha-1", port=5433).following(primary)
    assert primary.heard() == {"ha-1"}
    assert standby.received()


def test_members_follow_whatever_certificate_their_primary_shows(image: Place) -> None:
    """The user's own CA may change at any time, and members are not cut from each other."""
    primary = Node("ha-0").with_conf(certificate=PKI / "stranger.pem").leading()
    standby = Node("ha-1", port=5433).following(primary)
    assert primary.heard() == {"ha-1"}
    assert "channel_binding" in (standby.server.attached_to() or "")


class Between:
    """Somebody between a standby and its primary, with a certificate of their own, who hands on
    every byte."""

    def __init__(self, port: int, target: int) -> None:
        self._server = socket.create_server((ADDRESS, port))
        self._target = target
        self.met = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            client, _ = self._server.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        assert client.recv(8) == SSL_REQUEST
        client.sendall(b"S")
        mine = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        mine.load_cert_chain(PKI / "stranger.pem")
        near = mine.wrap_socket(client, server_side=True)
        plain = socket.create_connection((ADDRESS, self._target), 10)
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
        far = theirs.wrap_socket(plain)
        self.met += 1
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=self._hand_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _hand_on(source: ssl.SSLSocket, target: ssl.SSLSocket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@one_version
def test_nobody_gets_between_members(image: Place) -> None:
    """Law, point 14: the password is bound to the TLS session, and theirs is another."""
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).following(primary)
    between = Between(5440, primary.port)
    # Who binds nothing is not protected: the one between is able.
    psycopg.connect(
        host=ADDRESS, port=5440, user=REPLICATION_USER, password=REPLICATION_PASSWORD,
        dbname="postgres", sslmode="require", channel_binding="disable",
    ).close()  # fmt: skip
    met = between.met
    standby.server.attach(ADDRESS, 5440, REPLICATION_PASSWORD, "ha-1", None)
    eventually("it was tried", lambda: between.met > met)
    eventually("it is refused", lambda: "SCRAM channel binding check failed" in LOG.read_text())
    assert primary.heard() == set()


class Asking:
    """Somebody who answers for a primary, and asks for the password in the clear."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server((ADDRESS, port))
        self.heard: list[bytes] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        mine = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        mine.load_cert_chain(PKI / "stranger.pem")
        while True:
            client, _ = self._server.accept()
            assert client.recv(8) == SSL_REQUEST
            client.sendall(b"S")
            with mine.wrap_socket(client, server_side=True) as near:
                assert b"pgha_replication" in near.recv(65536)
                near.sendall(b"R" + struct.pack("!ii", 8, 3))  # AuthenticationCleartextPassword
                try:
                    self.heard.append(near.recv(65536))
                except OSError:
                    self.heard.append(b"")


@one_version
def test_no_member_tells_its_password_to_a_stranger(image: Place) -> None:
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).following(primary)
    asking = Asking(5441)
    standby.server.attach(ADDRESS, 5441, REPLICATION_PASSWORD, "ha-1", None)
    eventually("it was asked", lambda: asking.heard)
    assert not [heard for heard in asking.heard if REPLICATION_PASSWORD.encode() in heard]
    eventually("it says why", lambda: "channel binding required" in LOG.read_text())


@one_version
def test_a_primary_that_offers_no_tls_is_not_followed(image: Place) -> None:
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).following(primary)
    primary.stopped().with_conf(certificate=None).started().promoted()
    eventually("it is refused", lambda: "server does not support SSL" in LOG.read_text())
    assert primary.heard() == set()
    assert not standby.received()
