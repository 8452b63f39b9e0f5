"""/readyz, /livez and /metrics on one plain port. Owns the endpoints; the answers are given to it.

A probe that arrives whole is answered on the accepting thread; a slow client gets a thread of its
own with a deadline, so that it cannot delay the kubelet's next probe. Nothing private is served.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pgha.http.listener import Listener
from pgha.http.wire import BadRequest, Request, linger, read_request, respond

log = logging.getLogger(__name__)

Check = Callable[[], tuple[bool, str]]
TEXT = "text/plain; charset=utf-8"
REQUEST_SECONDS = 2.0
AT_ONCE_MS = 5  # a kubelet's request arrives with its connection
MAX_THREADS = 8


class Probes:
    """Serves until `stop`; `port` 0 takes a free one, found in `.port`."""

    def __init__(
        self,
        port: int,
        ready: Check,
        live: Check,
        registry: CollectorRegistry,
        address: str = "",
    ) -> None:
        self._checks = {"/readyz": ready, "/livez": live}
        self._registry = registry
        self._slots = threading.BoundedSemaphore(MAX_THREADS)
        self._listener = Listener(address, port, self._accepted, "probes")
        self.port = self._listener.port

    def start(self) -> Probes:
        self._listener.start()
        return self

    def stop(self) -> None:
        self._listener.close()

    def _accepted(self, connection: socket.socket) -> None:
        waiting = select.poll()
        waiting.register(connection, select.POLLIN)
        first = connection.recv(4096, socket.MSG_PEEK) if waiting.poll(AT_ONCE_MS) else b""
        if first.endswith(b"\r\n\r\n") and not first.startswith(b"GET /metrics"):
            with connection:
                self._handle(connection)
            return
        if not self._slots.acquire(blocking=False):
            connection.close()
            return
        threading.Thread(target=self._slow, args=(connection,), daemon=True).start()

    def _slow(self, connection: socket.socket) -> None:
        try:
            with connection:
                if not self._handle(connection):
                    linger(connection)
        finally:
            self._slots.release()

    def _handle(self, connection: socket.socket) -> bool:
        """False when the request was refused before all of it was read."""
        try:
            try:
                request = read_request(connection, REQUEST_SECONDS, 0)
                status, kind, body = self._answer(request)
                respond(connection, status, kind, body, request.method == "HEAD")
            except BadRequest as error:
                respond(connection, error.status, TEXT, f"{error}\n".encode(), False)
                return False
        except OSError as error:
            log.debug("a probe's client went away (%s)", error)
        return True

    def _answer(self, request: Request) -> tuple[int, str, bytes]:
        if request.path == "/metrics":
            encode, kind = choose_encoder(request.headers.get("accept", ""))
            return 200, kind, encode(self._registry)
        check = self._checks.get(request.path)
        if check is None:
            return 404, TEXT, b"there are /readyz, /livez and /metrics\n"
        try:
            good, sentence = check()
        except Exception as error:
            log.exception("%s", request.path)
            good, sentence = False, f"the check failed ({error!r})"
        return 200 if good else 503, TEXT, f"{sentence}\n".encode()
