"""A certificate authority and one member certificate, as the stack makes them, for user 999."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.postgres.inside import USER

DAY = datetime.timedelta(days=1)


def make_pki(folder: Path) -> None:
    """ca.crt, member.crt, member.key; and stranger.crt, an authority that signed nothing here."""
    authority, stranger, member = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    _write(folder / "ca.crt", _certificate("ca", "ca", authority, authority, True))
    _write(folder / "stranger.crt", _certificate("stranger", "stranger", stranger, stranger, True))
    _write(folder / "member.crt", _certificate("member", "ca", member, authority, False))
    _write(
        folder / "member.key",
        member.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _certificate(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey,
    authority: bool,
) -> bytes:  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ha-pods")]), critical=False)
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    os.chown(path, USER, USER)
