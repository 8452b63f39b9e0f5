"""Owns the lab's certificate authority, certificates and kubeconfigs; made once for each lab."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.layout import API_ADDRESS, API_PORT, API_SERVICE_ADDRESS, Layout

LIFETIME = datetime.timedelta(days=3650)
# A machine restored from a snapshot may find its clock set back a little.
BACKDATED = datetime.timedelta(days=2)

COMPONENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
}


def make(layout: Layout) -> None:
    """Make every key, certificate and kubeconfig that is missing."""
    done = layout.pki / "complete"
    if done.exists():
        return
    layout.pki.mkdir(parents=True, exist_ok=True)
    os.chmod(layout.pki, 0o700)
    authority = _Authority(layout.pki)
    authority.issue(
        "apiserver",
        "kube-apiserver",
        None,
        [API_ADDRESS, API_SERVICE_ADDRESS, "127.0.0.1", "localhost"]
        + ["kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    )
    authority.issue("kubelet-client", "kubelet-client", "system:masters", [])
    _write_key(layout.pki / "sa.key", ec.generate_private_key(ec.SECP256R1()))
    for file, (name, group) in COMPONENTS.items():
        authority.issue(file, name, group, [])
        _write_kubeconfig(layout, file)
    for number in layout.numbers:
        node = layout.node_name(number)
        addresses = [node, layout.node_address(number)]
        authority.issue(node, f"system:node:{node}", "system:nodes", addresses)
        _write_kubeconfig(layout, node)
    done.touch()


class _Authority:
    """A certificate authority that lives in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("lab-ca", None)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        _write_certificate(folder / "ca.crt", certificate)

    def issue(self, file: str, name: str, group: str | None, subjects: list[str]) -> None:
        """Write FILE.key and FILE.crt for a user or server of that name."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(_name(name, group), self._name, key.public_key()).add_extension(
            x509.ExtendedKeyUsage(usage), critical=False
        )
        if subjects:
            names = x509.SubjectAlternativeName([_subject(subject) for subject in subjects])
            builder = builder.add_extension(names, critical=False)
        _write_key(self._folder / f"{file}.key", key)
        _write_certificate(self._folder / f"{file}.crt", builder.sign(self._key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _name(name: str, group: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if group:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(attributes)


def _subject(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    file.touch(mode=0o600)
    file.write_bytes(pem)


def _write_certificate(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_kubeconfig(layout: Layout, file: str) -> None:
    """JSON, which every reader of kubeconfigs takes as YAML."""

    def embedded(name: str) -> str:
        return base64.b64encode((layout.pki / name).read_bytes()).decode()

    name = layout.name
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": f"https://{API_ADDRESS}:{API_PORT}",
                    "certificate-authority-data": embedded("ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": file,
                "user": {
                    "client-certificate-data": embedded(f"{file}.crt"),
                    "client-key-data": embedded(f"{file}.key"),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": file}}],
    }
    target = layout.pki / f"{file}.kubeconfig"
    target.touch(mode=0o600)
    target.write_text(json.dumps(config, indent=1))
