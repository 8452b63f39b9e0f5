"""CAs and certificates that the stack makes. Owns their form, their lives and when one is due.

A CA is made once, outlives all its certificates, and its key stays in Pulumi's state. Everything
else follows from that key and the clock: the same run at the same time gives the same bytes, so a
renewal is a change when it is due and nothing is one before. A life is counted in turns of two
thirds of it: from then on the next certificate, with a key of its own, takes its place. Members and
clients trust the CA, so they notice no renewal (docs/decisions/certificates.md).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from components.naming import Names

AUTHORITY_CERTIFICATE, AUTHORITY_KEY = "authority.crt", "authority.key"
AUTHORITY_DAYS = 36500
"""A hundred years: nobody's trust in it shall end by forgetting."""
MEMBER_DAYS = 3650
_EARLIER = timedelta(days=1)
"""Validity begins this long ago, for nodes whose clock is behind."""
_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve's group (FIPS 186-4, D.1.2.3): a private key is from 1 to this less one."""


@dataclass(frozen=True)
class Wanted:
    """What a certificate shall say. `days`: its life; `for_clients`: it also proves a client."""

    common_name: str
    hosts: tuple[str, ...]
    days: int
    for_clients: bool = False


@dataclass(frozen=True)
class Served:
    """PEM texts: the CAs to trust, the certificate, its key."""

    ca: str
    certificate: str
    key: str


def new_authority(names: Names, now: datetime) -> dict[str, str]:
    """A CA and its key as PEM, to be stashed."""
    key = ec.generate_private_key(_CURVE)
    # CAs of one cluster can stand in one bundle: no two bear the same name.
    subject = _common_name(f"{names.name}-ca-{secrets.token_hex(3)}")
    public = key.public_key()
    made = now.replace(microsecond=0)
    ca = (
        _builder(subject, subject, public, made - _EARLIER, made + timedelta(days=AUTHORITY_DAYS))
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return {AUTHORITY_CERTIFICATE: _pem(ca), AUTHORITY_KEY: _key_pem(key)}


def served(
    authority: Mapping[str, str], wanted: Wanted, now: datetime, kept: Served | None = None
) -> Served:
    """What is to be served now. `authority` is what `new_authority` gave.

    `kept` is a certificate of a CA whose key is lost (an earlier life of the stack): it serves
    until it is due. The new CA is trusted beside its CA from the first, so that whoever checks has
    long known it by then.
    """
    ca = authority[AUTHORITY_CERTIFICATE]
    if kept is not None:
        ca += "".join(issuers(kept))
        if not is_due(kept.certificate, now):
            return Served(ca, kept.certificate, kept.key)
    return Served(ca, *_issued(authority, wanted, now))


def is_due(certificate: str, now: datetime) -> bool:
    """Whether a certificate is in the last third of its life; one that is no PEM is due."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return True
    start, end = found.not_valid_before_utc, found.not_valid_after_utc
    return now >= end - (end - start) / 3


def issuers(given: Served) -> list[str]:
    """The CAs among those given that signed the certificate, as PEM."""
    try:
        leaf = x509.load_pem_x509_certificate(given.certificate.encode())
        bundle = x509.load_pem_x509_certificates(given.ca.encode())
    except ValueError:
        return []
    return [_pem(ca) for ca in bundle if _signed(ca, leaf)]


def for_members(names: Names) -> Wanted:
    """The one certificate that all members share: they serve and ask with it."""
    pods = f"{names.headless_service}.{names.namespace}.svc"
    hosts = (f"*.{pods}", f"*.{pods}.cluster.local", names.headless_service)
    return Wanted(f"{names.name}-member", hosts, MEMBER_DAYS, for_clients=True)


def for_server(names: Names, days: int) -> Wanted:
    """The certificate that PostgreSQL shows to clients, whichever of its names they use."""
    services = (names.name, names.replicas_service, names.standby_service)
    hosts = [host for service in services for host in _forms(service, names.namespace)]
    hosts += [f"*.{host}" for host in _forms(names.headless_service, names.namespace)]
    return Wanted(names.name, tuple(hosts), days)


def _forms(service: str, namespace: str) -> list[str]:
    full = f"{service}.{namespace}.svc"
    return [service, f"{service}.{namespace}", full, f"{full}.cluster.local"]


def _issued(authority: Mapping[str, str], wanted: Wanted, now: datetime) -> tuple[str, str]:
    """The present turn's certificate and key, as PEM."""
    ca = x509.load_pem_x509_certificate(authority[AUTHORITY_CERTIFICATE].encode())
    ca_key = serialization.load_pem_private_key(authority[AUTHORITY_KEY].encode(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    made = ca.not_valid_before_utc + _EARLIER
    life = timedelta(days=wanted.days)
    turn = max(0, (now - made) // (life * 2 / 3))
    begin = made + turn * (life * 2 / 3)
    start, end = (t.replace(microsecond=0) for t in (begin - _EARLIER, begin + life))
    key = ec.derive_private_key(
        1 + _derived(ca_key, f"key {wanted.common_name} {turn}", 48) % (_ORDER - 1), _CURVE
    )
    content = hashlib.sha256(repr((wanted, start, end)).encode()).hexdigest()
    certificate = (
        _builder(_common_name(wanted.common_name), ca.subject, key.public_key(), start, end)
        .serial_number(1 + _derived(ca_key, f"serial {content}", 15))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in wanted.hosts]),
            critical=False,
        )
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH]
                + [ExtendedKeyUsageOID.CLIENT_AUTH] * wanted.for_clients
            ),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return _pem(certificate), _key_pem(key)


def _derived(key: ec.EllipticCurvePrivateKey, what: str, length: int) -> int:
    """A number of so many bytes that only who has the key can know (HKDF, RFC 5869)."""
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    kdf = HKDF(hashes.SHA256(), length, salt=None, info=f"pgha {what}".encode())
    return int.from_bytes(kdf.derive(secret), "big")


def _signed(ca: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(start.astimezone(UTC))
        .not_valid_after(end.astimezone(UTC))
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
