"""What is wrong with a TLS Secret of the user's. Pure; owns no rule on its renewal.

PostgreSQL would refuse the first two flaws at its start, and libpq the third: SCRAM over TLS binds
to the hash of the certificate's signature, and Ed25519 and Ed448 name none (RFC 5929, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import serialization

TLS_KEYS = ("ca.crt", "tls.crt", "tls.key")


def flaw(values: Mapping[str, str]) -> str | None:
    """The end of a sentence that begins with the Secret, or None if it can be served."""
    for key in TLS_KEYS:
        if not values.get(key):
            return f"lacks the key {key}"
    try:
        for key in ("ca.crt", "tls.crt"):
            chain = x509.load_pem_x509_certificates(values[key].encode())
    except ValueError:
        return f"has no PEM certificate in {key}"
    try:
        private = serialization.load_pem_private_key(values["tls.key"].encode(), None)
    except (ValueError, TypeError):  # TypeError: it has a passphrase
        return "has no PEM private key without a passphrase in tls.key"
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        return "has in tls.key another key than that of the first certificate in tls.crt"
    if chain[0].signature_hash_algorithm is None:
        return (
            "has in tls.crt a certificate signed by Ed25519 or Ed448, with which PostgreSQL's "
            "clients cannot bind a password to TLS: have it signed by an RSA or ECDSA key"
        )
    return None
