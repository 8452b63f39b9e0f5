"""Which cluster, and as whom: reads a kubeconfig. Opens no connection.

Certificates, tokens and basic settings only; a kubeconfig that runs a program for its credentials
is refused with a sentence, since the clusters that want one have the official provider.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


class NoCluster(Exception):
    """There is no kubeconfig that can be used; the text says why."""


@dataclass(frozen=True)
class Target:
    """A cluster and the rights to use it."""

    server: str
    namespace: str
    headers: dict[str, str] = field(default_factory=dict)
    ca: str | None = None
    verify: bool = True
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca)
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate and self.key:
            # The ssl module takes files alone.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(self.certificate + "\n" + self.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context


def load(given: str, context: str, cluster: str, environment: Mapping[str, str]) -> Target:
    """`given`: a kubeconfig's path or its text, or empty for KUBECONFIG or ~/.kube/config.

    As the official provider does it, a path that was given is one file, and relative paths in it
    start at the working directory; KUBECONFIG may list several, each with paths of its own.
    """
    folder = Path.cwd()
    if given:
        config = _given(given)
    else:
        named = environment.get("KUBECONFIG") or "~/.kube/config"
        files = [Path(os.path.expanduser(each)) for each in named.split(os.pathsep) if each]
        found = [file for file in files if file.is_file()]
        if not found:
            raise NoCluster(f"there is no kubeconfig at {named}")
        folder = found[0].absolute().parent
        config = _merged([_parsed(file.read_text(), str(file)) for file in found])
    return _target(config, context, cluster, folder)


def active_cluster(given: str, context: str, cluster: str) -> dict[str, Any] | None:
    """The cluster's entry in a kubeconfig that was given, to tell one cluster from another;
    None if nothing was given or nothing is chosen in it."""
    if not given:
        return None
    try:
        config = _given(given)
        entry = _entry(config, "context", context or str(config.get("current-context") or ""))
        return _entry(config, "cluster", cluster or str(entry.get("cluster", "")))
    except NoCluster:
        return None


def _given(given: str) -> dict[str, Any]:
    file = Path(os.path.expanduser(given)) if "\n" not in given else None
    try:
        text = file.read_text() if file is not None and file.is_file() else given
    except OSError as error:
        raise NoCluster(f"{file} cannot be read: {error}") from error
    return _parsed(text, "what the provider was given, neither a file's path nor a file's text,")


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NoCluster(f"{source} is no YAML: {error}") from error
    if not isinstance(config, dict):
        raise NoCluster(f"{source} is no kubeconfig")
    return config


def _merged(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """As kubectl does: of two entries of one name the first wins."""
    merged: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            if isinstance(value, list):
                merged.setdefault(key, []).extend(value)
            elif not merged.get(key):
                merged[key] = value
    return merged


def _entry(config: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    for each in config.get(f"{kind}s") or []:
        if each.get("name") == name:
            return dict(each.get(kind) or {})
    raise NoCluster(f"the kubeconfig has no {kind} {name!r}")


def _target(config: dict[str, Any], context: str, cluster: str, folder: Path) -> Target:
    chosen = context or config.get("current-context") or ""
    if not chosen:
        raise NoCluster("the kubeconfig has no current-context, and none is configured")
    entry = _entry(config, "context", chosen)
    server = _entry(config, "cluster", cluster or str(entry.get("cluster", "")))
    user = _entry(config, "user", str(entry["user"])) if entry.get("user") else {}
    if "exec" in user or "auth-provider" in user:
        raise NoCluster(
            f"the kubeconfig's user {entry['user']!r} gets its credentials from a program, which "
            "the lab's stand-in provider does not run: use the official one, LAB_PROVIDER=official"
        )
    headers = {}
    token = user.get("token") or _text(user, "tokenFile", "", folder)
    if token:
        headers["Authorization"] = f"Bearer {token.strip()}"
    elif user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return Target(
        server=str(server.get("server", "")).rstrip("/"),
        namespace=str(entry.get("namespace") or "default"),
        headers=headers,
        ca=_text(server, "certificate-authority", "certificate-authority-data", folder),
        verify=not server.get("insecure-skip-tls-verify"),
        certificate=_text(user, "client-certificate", "client-certificate-data", folder),
        key=_text(user, "client-key", "client-key-data", folder),
        server_name=server.get("tls-server-name"),
    )


def _text(entry: dict[str, Any], file: str, data: str, folder: Path) -> str | None:
    if entry.get(data):
        return base64.b64decode(entry[data]).decode()
    if entry.get(file):
        named = folder / os.path.expanduser(str(entry[file]))
        try:
            return named.read_text()
        except OSError as error:
            raise NoCluster(f"the kubeconfig's {file} cannot be read: {error}") from error
    return None
