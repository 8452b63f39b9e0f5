"""An HTTP proxy in front of the API server that misbehaves on request. Owns its connections.

Plain HTTP towards the client, the client's own token towards the server. Faults are taken in the
order they were added, each by the first request that it matches.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import urllib3

Kind = Literal["status", "hang", "lose", "old", "event", "break", "trickle"]


@dataclass
class Fault:
    """status: answer `code` without asking the server. hang: never answer, never ask. lose: ask,
    then close without answering. old: ask a watch from resourceVersion 1. event: send `text` as
    the first event of a watch. break: announce a body and close in the middle of it. trickle: send
    the body byte by byte, for a minute."""

    kind: Kind
    method: str = ".*"
    path: str = ".*"
    code: int = 500
    text: str = ""
    retry_after: str | None = None
    count: int = 1


class FaultProxy:
    def __init__(self, server: str, ca: Path) -> None:
        self._upstream = urllib3.PoolManager(ca_certs=str(ca), retries=False, maxsize=20)
        self._server = server
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._streams: list[socket.socket] = []
        self.released = threading.Event()
        self.seen: list[tuple[str, str]] = []
        self.stalled = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass  # tests look at `seen`

            def do(self) -> None:
                outer.handle(self)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do  # noqa: N815

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def fault(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def drop_watches(self) -> int:
        """Cut all open watches in the middle; answers how many."""
        with self._lock:
            streams, self._streams = self._streams, []
        for each in streams:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it ended by itself
        return len(streams)

    def stop(self) -> None:
        self.released.set()
        self.drop_watches()
        self._http.shutdown()
        self._http.server_close()

    def count(self, method: str, path: str) -> int:
        return sum(bool(re.fullmatch(method, m) and re.search(path, p)) for m, p in self.seen)

    def _take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if re.fullmatch(fault.method, method) and re.search(fault.path, path):
                    fault.count -= 1
                    if fault.count == 0:
                        self._faults.remove(fault)
                    return fault
        return None

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        method, path = request.command, request.path
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.seen.append((method, path))
        fault = self._take(method, path)
        if fault and fault.kind == "status":
            self._refuse(request, fault)
            return
        if fault and fault.kind == "hang":
            self.released.wait(60)
            request.close_connection = True
            return
        if fault and fault.kind == "old":
            path = re.sub(r"resourceVersion=\d+", "resourceVersion=1", path)
        keep = ("Authorization", "Content-Type", "Accept")
        answer = self._upstream.request(
            method, self._server + path, body=body or None, preload_content=False,
            headers={k: v for k, v in request.headers.items() if k in keep},
            timeout=urllib3.Timeout(connect=5, read=330),
        )  # fmt: skip
        if "watch=true" in path and answer.status == 200:
            self._stream(request, answer, fault)
            return
        data = answer.data
        if fault and fault.kind == "lose":
            request.close_connection = True
            return
        request.send_response(answer.status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if fault and fault.kind == "break":
            data = data[: len(data) // 2]
            request.close_connection = True
        if fault and fault.kind == "trickle":
            self._trickle(request, data)
            return
        request.wfile.write(data)

    def _trickle(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        for byte in data:
            try:
                request.wfile.write(bytes([byte]))
            except OSError:
                break  # the client gave up, as it should
            self.released.wait(60 / len(data))
        request.close_connection = True

    def _refuse(self, request: BaseHTTPRequestHandler, fault: Fault) -> None:
        text = fault.text or f"fault {fault.code}"
        data = json.dumps({"kind": "Status", "code": fault.code, "message": text}).encode()
        request.send_response(fault.code)
        if fault.retry_after is not None:
            request.send_header("Retry-After", fault.retry_after)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _stream(
        self, request: BaseHTTPRequestHandler, answer: urllib3.BaseHTTPResponse,
        fault: Fault | None,
    ) -> None:  # fmt: skip
        request.close_connection = True
        with self._lock:  # before the client can know of it
            self._streams.append(request.connection)
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        send = self._sender(request)
        try:
            if fault and fault.kind == "event":
                send(fault.text.encode() + b"\n")
            while part := answer.read1(65536):
                if not self.stalled:
                    send(part)
            request.wfile.write(b"0\r\n\r\n")
        except (OSError, urllib3.exceptions.HTTPError):
            pass  # the client left, or the stream was cut by the test
        finally:
            answer.close()

    @staticmethod
    def _sender(request: BaseHTTPRequestHandler) -> Callable[[bytes], None]:
        def send(part: bytes) -> None:
            request.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            request.wfile.flush()

        return send
