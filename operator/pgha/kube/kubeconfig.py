"""Reads a kubeconfig for the command line and the tests. Owns its format; no agent uses it."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgha.kube.errors import ApiError

if TYPE_CHECKING:
    from pgha.kube.client import Api


def load(kind: type[Api], path: Path, context_name: str | None) -> Api:
    """An Api for the current (or named) context; raises ApiError with one sentence."""
    config = _parse(path)
    wanted = context_name or config.get("current-context")
    context = _named(config, "contexts", "context", wanted, path)
    cluster = _named(config, "clusters", "cluster", context.get("cluster"), path)
    user = _named(config, "users", "user", context.get("user"), path)
    namespace = context.get("namespace") or "default"
    base = str(cluster.get("server", ""))
    tls: ssl.SSLContext | None = None
    if base.startswith("https:"):
        tls = _context(cluster, user, path)
    return kind(base, _token(user, path), None, namespace, context=tls)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})") from error
    try:
        loaded: Any = json.loads(text)
    except ValueError:
        try:
            import yaml
        except ImportError as error:
            raise _bad(path, "is YAML but PyYAML is not installed: convert it to JSON") from error
        try:
            loaded = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise _bad(path, f"is neither JSON nor YAML ({error})") from error
    if not isinstance(loaded, dict):
        raise _bad(path, "holds no mapping")
    return loaded


def _named(
    config: dict[str, Any], group: str, key: str, name: str | None, path: Path
) -> dict[str, Any]:
    for entry in config.get(group) or []:
        if isinstance(entry, dict) and entry.get("name") == name:
            value = entry.get(key) or {}
            return dict(value)
    raise _bad(path, f'has no {key} "{name}" among its {group}')


def _bytes(source: dict[str, Any], key: str, path: Path) -> bytes | None:
    if source.get(f"{key}-data"):
        return base64.b64decode(source[f"{key}-data"])
    if source.get(key):
        # A relative path is relative to the kubeconfig, as for kubectl.
        return (path.parent / str(source[key])).read_bytes()
    return None


def _context(cluster: dict[str, Any], user: dict[str, Any], path: Path) -> ssl.SSLContext:
    ca = _bytes(cluster, "certificate-authority", path)
    tls = ssl.create_default_context(cadata=ca.decode() if ca else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    cert, key = _bytes(user, "client-certificate", path), _bytes(user, "client-key", path)
    if cert and key:
        # OpenSSL's Python binding takes certificates by file name only.
        with tempfile.TemporaryDirectory() as folder:
            pem = Path(folder) / "client.pem"
            pem.touch(0o600)
            pem.write_bytes(cert + b"\n" + key)
            tls.load_cert_chain(pem)
    return tls


def _token(user: dict[str, Any], path: Path) -> Callable[[], str] | None:
    if user.get("exec"):
        return _exec_token(user["exec"])
    if user.get("tokenFile"):
        from pgha.kube.client import token_file

        return token_file(path.parent / user["tokenFile"])
    token = user.get("token")
    return (lambda: str(token)) if token else None


def _exec_token(spec: dict[str, Any]) -> Callable[[], str]:
    """A token from a credential plugin (client.authentication.k8s.io), asked again each minute."""
    cached, asked_at = "", float("-inf")

    def ask() -> str:
        nonlocal cached, asked_at
        if time.monotonic() - asked_at < 60 and cached:
            return cached
        extra = {entry["name"]: entry["value"] for entry in spec.get("env") or []}
        info = {"apiVersion": spec.get("apiVersion"), "kind": "ExecCredential",
                "spec": {"interactive": False}}  # fmt: skip
        command = [spec["command"], *(spec.get("args") or [])]
        try:
            done = subprocess.run(
                command, env={**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True,
            )  # fmt: skip
            token = str(json.loads(done.stdout)["status"]["token"])
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            raise ApiError(
                0, "Credentials", f"the credential plugin {command[0]} gave no token ({error})"
            ) from error
        cached, asked_at = token, time.monotonic()
        return token

    return ask


def _bad(path: Path, what: str) -> ApiError:
    return ApiError(0, "Kubeconfig", f"the kubeconfig {path} {what}")
