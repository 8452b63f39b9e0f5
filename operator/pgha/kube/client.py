"""One thin, synchronous client of the Kubernetes API over urllib3. Owns connections and tokens.

It knows no resource and retries nothing: a write is sent once, and the caller learns whether it
may have landed (`ApiError.ambiguous`). Lease traffic has connections of its own, so that nothing
else delays a renewal. The `kubernetes` package is not imported: its models cost 40 MB.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.response import BaseHTTPResponse

from pgha.kube.errors import (
    ApiError,
    ApiUnreachable,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    from_answer,
)

__all__ = [
    "Api", "ApiError", "ApiUnreachable", "Conflict", "Forbidden", "Gone", "Invalid", "NotFound",
    "JSON", "JSON_PATCH", "MERGE_PATCH",
]  # fmt: skip

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_ANSWER = 32 * 1024 * 1024
_TOKEN_AGE = 60.0  # as client-go does; the file is in memory (a projected volume), not on disk

# A dead API is seen by the kernel in about 10 s even when nothing is being sent.
_SOCKET_OPTIONS: list[tuple[int, int, int | bytes]] = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
]


def token_file(path: Path) -> Callable[[], str]:
    """A token read again from `path` once a minute: kubelet replaces it long before it expires."""
    read_at, token = float("-inf"), ""

    def read() -> str:
        nonlocal read_at, token
        now = time.monotonic()
        if now - read_at > _TOKEN_AGE or not token:
            token, read_at = path.read_text().strip(), now
        return token

    return read


class Api:
    """Calls of one API server (or of the Service in front of several) in one namespace."""

    def __init__(
        self,
        base: str,
        token: Callable[[], str] | None,
        ca: Path | None,
        namespace: str,
        client_cert: tuple[Path, Path] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.base = base.rstrip("/")
        self.namespace = namespace
        self._token = token
        self.calls: Counter[str] = Counter()  # by verb, for the metric
        tls: dict[str, Any] = {}
        if base.startswith("https:"):
            context = context or ssl.create_default_context(cafile=str(ca) if ca else None)
            if client_cert is not None:
                context.load_cert_chain(*(str(part) for part in client_cert))
            tls = {"ssl_context": context}

        def pool(size: int) -> urllib3.HTTPConnectionPool:
            return urllib3.connection_from_url(
                self.base, maxsize=size, block=False, retries=False,
                socket_options=_SOCKET_OPTIONS, **tls,
            )  # fmt: skip

        self._pool, self._lease_pool, self._watch_pool = pool(4), pool(2), pool(4)

    @classmethod
    def in_cluster(cls) -> Api:
        """The API as a pod sees it; raises ApiError naming what is not mounted."""
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        token = SERVICE_ACCOUNT / "token"
        if not host or not token.exists():
            raise ApiError(
                0, "NotInCluster",
                f"no ServiceAccount token at {token} or no KUBERNETES_SERVICE_HOST: "
                "run inside a pod with automountServiceAccountToken, or pass a kubeconfig",
            )  # fmt: skip
        namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
        host = f"[{host}]" if ":" in host else host
        return cls(
            f"https://{host}:{port}", token_file(token), SERVICE_ACCOUNT / "ca.crt", namespace
        )

    @classmethod
    def from_kubeconfig(cls, path: Path | str, context: str | None = None) -> Api:
        """The cluster of a kubeconfig's current (or named) context."""
        from pgha.kube.kubeconfig import load

        return load(cls, Path(path), context)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        timeout: float = 5.0,
        *,
        query: Mapping[str, str] | None = None,
        lease: bool = False,
    ) -> dict[str, Any]:
        """Send once, answer the decoded object; `timeout` seconds bound it all. Raises ApiError."""
        deadline = time.monotonic() + timeout
        pool = self._lease_pool if lease else self._pool
        response = self._send(pool, method, path, body, content_type, timeout, timeout, query)
        try:
            data = _read(response, deadline)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            response.close()
            raise ApiUnreachable(f"{method} {path}: the answer broke off ({error})") from error
        response.release_conn()
        if response.status >= 300:
            raise from_answer(
                method, path, response.status, data, response.headers.get("Retry-After")
            )
        try:
            loaded: Any = json.loads(data) if data else {}
        except ValueError as error:
            raise ApiUnreachable(f"{method} {path}: the answer is no JSON ({error})") from error
        if not isinstance(loaded, dict):
            raise ApiUnreachable(f"{method} {path}: the answer is no JSON object")
        return loaded

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, str], connect: float, quiet: float
    ) -> Iterator[BaseHTTPResponse]:
        """A watch's response, unread; a read that is silent for `quiet` seconds raises."""
        response = self._send(self._watch_pool, "GET", path, None, JSON, connect, quiet, query)
        try:
            if response.status >= 300:
                data = _read(response, time.monotonic() + connect)
                raise from_answer(
                    "GET", path, response.status, data, response.headers.get("Retry-After")
                )
            yield response
        finally:
            response.close()  # a watch's connection is never reused: it may be half dead

    def close(self) -> None:
        """Close idle connections; calls under way end by their own deadlines."""
        for pool in (self._pool, self._lease_pool, self._watch_pool):
            pool.close()

    def _send(
        self,
        pool: urllib3.HTTPConnectionPool,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        connect: float,
        read: float,
        query: Mapping[str, str] | None,
    ) -> BaseHTTPResponse:
        if connect <= 0:
            raise ApiUnreachable(f"{method} {path}: no time was left to send it", ambiguous=False)
        headers = {"Accept": JSON, "User-Agent": "pgha"}
        if self._token is not None:
            try:
                headers["Authorization"] = f"Bearer {self._token()}"
            except OSError as error:
                text = f"the ServiceAccount token cannot be read ({error}): is it still mounted?"
                raise ApiUnreachable(text, ambiguous=False) from error
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        self.calls[method] += 1
        try:
            return pool.urlopen(
                method, path + ("?" + urlencode(query) if query else ""), data, headers,
                retries=False, redirect=False, preload_content=False,
                timeout=urllib3.Timeout(connect=connect, read=read),
            )  # fmt: skip
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as e:
            text = f"the Kubernetes API at {self.base} cannot be reached ({_cause(e)})"
            raise ApiUnreachable(text, ambiguous=False) from e
        except (urllib3.exceptions.HTTPError, OSError) as e:
            text = f"{method} {path} got no answer from {self.base} ({_cause(e)})"
            raise ApiUnreachable(text) from e


def _read(response: BaseHTTPResponse, deadline: float) -> bytes:
    """The whole body, with a deadline over all of it rather than over each read."""
    sock = getattr(response.connection, "sock", None)
    parts: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline passed while the answer was being read")
        if sock is not None:
            sock.settimeout(left)
        part = response.read1(65536)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > MAX_ANSWER:
            raise ValueError(f"the answer is larger than {MAX_ANSWER} bytes")
        parts.append(part)


def _cause(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)
