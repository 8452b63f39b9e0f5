"""Certificates as the stack makes them, and a stranger's, for user 999."""

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
    """ca.crt, and of each of the certificates member, renewed (of the same CA) and stranger (of
    none) the files NAME.crt, NAME.key, and NAME.pem, which has both."""
    keys = {name: ec.generate_private_key(ec.SECP256R1())
            for name in ("ca", "member", "renewed", "stranger")}  # fmt: skip
    _write(folder / "ca.crt", _certificate("ca", "ca", keys["ca"], keys["ca"], True))
    for name, issuer in (("member", "ca"), ("renewed", "ca"), ("stranger", "stranger")):
        certificate = _certificate(name, issuer, keys[name], keys[issuer], False)
        key = keys[name].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write(folder / f"{name}.crt", certificate)
        _write(folder / f"{name}.key", key)
        _write(folder / f"{name}.pem", certificate + key)


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
