"""The copy of the server's certificate: taken when it is good, left when it is not."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pgha.postgres.certificate import ServerCertificate, Source, ends_at

pytestmark = pytest.mark.unit

END = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def pair(password: bytes | None = None) -> tuple[bytes, bytes]:
    """A certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(END - timedelta(days=9)).not_valid_after(END).sign(key, hashes.SHA256())
    )  # fmt: skip
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form, hidden)


class Mounted:
    """A Secret's volume as kubelet lays it out: files are links through ..data into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = 0
        folder.mkdir()

    def publish(self, certificate: bytes, key: bytes) -> None:
        self.generation += 1
        new = self.folder / f"..{self.generation}"
        new.mkdir()
        (new / "tls.crt").write_bytes(certificate)
        (new / "tls.key").write_bytes(key)
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        link.replace(self.folder / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


class Case:
    def __init__(self, folder: Path) -> None:
        self.run, members = folder / "run", folder / "members"
        self.run.mkdir()
        members.mkdir()
        self.mounted = Mounted(folder / "tls")
        self.members = pair()
        for name, text in zip(("member.crt", "member.key"), self.members, strict=True):
            (members / name).write_bytes(text)
        self.said: list[str] = []
        self.source, self.fallback = Source.of_clients(folder / "tls"), Source.of_members(members)
        self.copy = self.begun()

    def begun(self) -> ServerCertificate:
        """As a new agent in the container has it."""
        return ServerCertificate(self.source, self.fallback, self.run, self.said.append)

    def serves(self, served: tuple[bytes, bytes]) -> bool:
        return self.copy.path.read_bytes() == b"\n".join(served)


@pytest.fixture()
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_renewal_is_noticed_once(case: Case) -> None:
    first, second = pair(), pair()
    case.mounted.publish(*first)
    assert case.copy.refresh()
    assert case.serves(first)
    assert not case.copy.refresh()
    case.mounted.publish(*second)
    assert case.copy.refresh()
    assert case.serves(second)
    assert not case.copy.refresh()
    assert case.said == []


def test_another_key_in_the_secret_does_not_reload_what_is_the_same(case: Case) -> None:
    """Kubelet makes all files anew when any of them changed."""
    same = pair()
    case.mounted.publish(*same)
    assert case.copy.refresh()
    case.mounted.publish(*same)
    assert not case.copy.refresh()


def test_the_copy_is_for_the_server_alone_and_never_half(case: Case) -> None:
    umask = os.umask(0)
    try:
        case.mounted.publish(*pair())
        case.copy.refresh()
    finally:
        os.umask(umask)
    assert case.copy.path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in case.run.iterdir()] == ["server.pem"]


@pytest.mark.parametrize("flaw", ["other key", "no certificate", "no key", "password", "missing"])
def test_what_cannot_be_served_leaves_the_old_one(case: Case, flaw: str) -> None:
    good, other, locked = pair(), pair(), pair(b"x")
    case.mounted.publish(*good)
    assert case.copy.refresh()
    if flaw == "missing":
        shutil.rmtree(case.mounted.folder / "..1")
    else:
        case.mounted.publish(
            *{"other key": (good[0], other[1]), "no certificate": (b"x", good[1]),
              "no key": (good[0], b""), "password": locked}[flaw]
        )  # fmt: skip
    for _ in range(3):
        assert not case.copy.refresh()
    assert case.serves(good)
    (sentence,) = case.said
    assert sentence.endswith("put a certificate and the key that fits it into its Secret")
    assert [each.name for each in case.run.iterdir()] == ["server.pem"]
    case.mounted.publish(*other)
    assert case.copy.refresh()
    assert case.serves(other)


def test_a_secret_that_was_never_good_does_not_keep_the_server_down(case: Case) -> None:
    case.mounted.publish(b"x", b"y")
    assert case.copy.refresh()
    assert case.serves(case.members)
    assert len(case.said) == 1
    good = pair()
    case.mounted.publish(*good)
    assert case.copy.refresh()
    assert case.serves(good)


def test_a_new_agent_goes_on_with_the_copy_of_the_one_before(case: Case) -> None:
    good = pair()
    case.mounted.publish(*good)
    case.copy.refresh()
    case.mounted.publish(good[0], b"x")
    case.copy = case.begun()
    assert not case.copy.refresh()
    assert case.serves(good)
    case.copy.path.write_bytes(b"half")
    case.copy = case.begun()
    assert case.copy.refresh()
    assert case.serves(case.members)


def test_nothing_to_serve_is_an_error(case: Case) -> None:
    case.fallback.key.unlink()
    with pytest.raises(OSError):
        case.copy.refresh()


def test_the_end_of_a_life_is_told(case: Case) -> None:
    case.mounted.publish(*pair())
    case.copy.refresh()
    assert ends_at(case.copy.path) == END.timestamp()
    assert str(ends_at(case.run / "none")) == "nan"
