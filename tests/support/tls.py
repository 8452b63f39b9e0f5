"""TLS as a client sees it, and a CA of a user's own. Owns neither the product's CA nor its keys."""

from __future__ import annotations

import base64
import datetime
import socket
import ssl
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
PORT = 5432
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # documentation, "Message Formats"


def served(address: str) -> x509.Certificate:
    """The certificate that PostgreSQL shows a new session, unchecked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, PORT), 5) as plain:
        plain.sendall(SSL_REQUEST)
        answer = plain.recv(1)
        assert answer == b"S", f"{address} answers {answer!r} to a request for TLS"
        with context.wrap_socket(plain) as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")


class OwnAuthority:
    """A CA as a company or cert-manager has one."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("own-ca", self._key, ca=True)

    def secret_data(self, *hosts: str) -> dict[str, str]:
        """`data` of a Secret of type kubernetes.io/tls, with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        texts = {
            "ca.crt": self.certificate,
            "tls.crt": self._sign("own", key, *hosts),
            "tls.key": key.private_bytes(*form, serialization.NoEncryption()),
        }
        return {name: base64.b64encode(text).decode() for name, text in texts.items()}

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, *hosts: str, ca: bool = False
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own-ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
