"""Calls of other members, alone or all at once. Owns deadlines and what an unreachable peer is.

An unreachable peer is unknown, not down (law, point 6): the error says what happened, the caller
concludes nothing more from it.
"""

from __future__ import annotations

import ipaddress
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pgha.peers.tls import Contexts, TlsFiles

CONNECT_SECONDS = 1.0
MAX_BODY = MAX_ANSWER = 64 * 1024


class PeerUnreachable(Exception):
    """No usable answer, in one sentence. `status` is the HTTP status of a refusal, else None."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class PeerClient:
    """Calls at one port; a connection per call, since calls are rare."""

    def __init__(self, tls: TlsFiles, port: int) -> None:
        self._contexts = Contexts(tls, server=False)
        self._port = port

    def call(
        self, host: str, path: str, body: dict[str, Any] | None = None, timeout: float = 2.0
    ) -> dict[str, Any]:
        """POST `body` (GET when None) and answer the JSON object, within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        return _within(lambda: self._call(host, path, body, deadline), host, path, timeout)

    def call_all(
        self,
        hosts: Mapping[str, str],
        path: str,
        body: dict[str, Any] | None = None,
        timeout: float = 2.0,
    ) -> dict[str, dict[str, Any] | PeerUnreachable]:
        """The same call to each host (name -> host) in parallel; an entry for every name."""
        deadline = time.monotonic() + timeout
        answers: queue.SimpleQueue[tuple[str, dict[str, Any] | PeerUnreachable]]
        answers = queue.SimpleQueue()

        def ask(name: str, host: str) -> None:
            try:
                answers.put((name, self._call(host, path, body, deadline)))
            except PeerUnreachable as error:
                answers.put((name, error))
            except Exception as error:
                answers.put((name, PeerUnreachable(f"{name}: {path} failed ({error!r})")))

        for name, host in hosts.items():
            threading.Thread(target=ask, args=(name, host), daemon=True).start()
        found: dict[str, dict[str, Any] | PeerUnreachable] = {}
        while len(found) < len(hosts):
            try:
                name, answer = answers.get(timeout=max(0.0, deadline + 0.05 - time.monotonic()))
            except queue.Empty:
                break
            found[name] = answer
        for name, host in hosts.items():
            found.setdefault(name, _late(host, path, timeout))
        return found

    def _call(
        self, host: str, path: str, body: dict[str, Any] | None, deadline: float
    ) -> dict[str, Any]:
        try:
            context, server_name = self._contexts.current()
            with _connect(host, self._port, deadline) as plain:
                with context.wrap_socket(plain, server_hostname=server_name) as secured:
                    return _exchange(secured, host, path, body, deadline)
        except TimeoutError as error:
            raise PeerUnreachable(f"{host}: {path} got no answer in time") from error
        except OSError as error:
            raise PeerUnreachable(f"{host}: {path} failed ({error.strerror or error})") from error


def _within(
    work: Callable[[], dict[str, Any]], host: str, path: str, timeout: float
) -> dict[str, Any]:
    """Name resolution knows no deadline, so a host that is no address is called on a thread."""
    try:
        ipaddress.ip_address(host)
        return work()
    except ValueError:
        pass
    outcome: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(work())
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = outcome.get(timeout=timeout + 0.05)
    except queue.Empty:
        raise _late(host, path, timeout) from None
    if isinstance(result, BaseException):
        raise result
    return result


def _late(host: str, path: str, timeout: float) -> PeerUnreachable:
    return PeerUnreachable(f"{host}: {path} got no answer within {timeout:g} s")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    sock = socket.create_connection((host, port), min(CONNECT_SECONDS, _left(deadline)))
    try:
        sock.settimeout(_left(deadline))  # bounds the handshake
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _exchange(
    secured: ssl.SSLSocket, host: str, path: str, body: dict[str, Any] | None, deadline: float
) -> dict[str, Any]:
    data = b"" if body is None else json.dumps(body).encode()
    if len(data) > MAX_BODY:
        raise PeerUnreachable(f"{host}: {path} was not asked, {len(data)} bytes are too many")
    where = f"[{host}]" if ":" in host else host  # an IPv6 address (RFC 9110, section 7.2)
    head = (
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {where}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    secured.settimeout(_left(deadline))
    secured.sendall(head.encode("ascii") + data)
    answer = b""
    while True:
        secured.settimeout(_left(deadline))
        part = secured.recv(16384)
        if not part:
            break
        answer += part
        if len(answer) > MAX_ANSWER + 4096:
            raise PeerUnreachable(f"{host}: {path} answered more than {MAX_ANSWER} bytes")
    status, content = _split(answer, host, path)
    try:
        loaded: Any = json.loads(content)
    except ValueError:
        raise PeerUnreachable(f"{host}: {path} answered no JSON", status) from None
    if not isinstance(loaded, dict):
        raise PeerUnreachable(f"{host}: {path} answered no JSON object", status)
    if status != 200:
        raise PeerUnreachable(
            f"{host}: {path} was refused ({loaded.get('error') or status})", status
        )
    return loaded


def _split(answer: bytes, host: str, path: str) -> tuple[int, bytes]:
    head, _, content = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise PeerUnreachable(f"{host}: {path} broke off before it answered")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and value.strip() != str(len(content)):
            raise PeerUnreachable(f"{host}: {path} broke off in its answer")
    return int(words[1]), content
