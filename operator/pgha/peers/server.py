"""The member-to-member server: mutual TLS, small JSON bodies, few threads. Owns the port.

What an endpoint does is given to it: plain functions from dict to dict. Nobody without a
certificate of the stack's CA gets past the handshake, and nothing a client sends ends in a
traceback on its side.
"""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pgha.http.listener import Listener
from pgha.http.wire import BadRequest, Request, linger, read_request, respond
from pgha.peers.tls import Contexts, TlsFiles

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], dict[str, Any]]
MAX_BODY = 64 * 1024
REQUEST_SECONDS = 2.0
MAX_THREADS = 16
JSON = "application/json"


class PeerServer:
    """Serves `handlers` by path; a body makes no difference between GET and POST."""

    def __init__(
        self, address: str, port: int, tls: TlsFiles, handlers: Mapping[str, Handler]
    ) -> None:
        self._contexts = Contexts(tls, server=True)
        self._contexts.current()  # bad files are the starter's error, not the first caller's
        self._handlers = dict(handlers)
        self._slots = threading.BoundedSemaphore(MAX_THREADS)
        self._listener = Listener(address, port, self._accepted, "peers")
        self.port = self._listener.port

    def start(self) -> PeerServer:
        self._listener.start()
        return self

    def stop(self) -> None:
        self._listener.close()

    def _accepted(self, connection: socket.socket) -> None:
        if not self._slots.acquire(blocking=False):
            connection.close()  # a flood; the caller sees an unreachable peer and asks again
            return
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(REQUEST_SECONDS)
            context, _ = self._contexts.current()
            with context.wrap_socket(connection, server_side=True) as secured:
                self._handle(secured)
        except OSError as error:
            log.debug("a peer's connection failed (%s)", error)
        except Exception:
            log.exception("peers")
        finally:
            connection.close()
            self._slots.release()

    def _handle(self, secured: ssl.SSLSocket) -> None:
        whole = False
        try:
            request = read_request(secured, REQUEST_SECONDS, MAX_BODY)
            whole = True
            status, answer = self._answer(request)
        except BadRequest as error:
            status, answer = error.status, {"error": str(error)}
        body = json.dumps(answer).encode()
        secured.settimeout(REQUEST_SECONDS)
        respond(secured, status, JSON, body, head=False)
        if not whole:
            linger(secured)

    def _answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        handler = self._handlers.get(request.path)
        if handler is None:
            return 404, {"error": f"there is no {request.path[:100]} here"}
        body: Any = {}
        if request.body:
            try:
                body = json.loads(request.body)
            except (ValueError, RecursionError):
                raise BadRequest(400, "the body is no JSON") from None
        if not isinstance(body, dict):
            raise BadRequest(400, "the body is no JSON object")
        try:
            return 200, handler(body)
        except ValueError as error:
            raise BadRequest(400, str(error)) from error
        except Exception as error:
            log.exception("%s", request.path)
            return 500, {"error": f"{request.path} failed ({type(error).__name__})"}
