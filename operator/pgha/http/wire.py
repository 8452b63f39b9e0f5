"""Just enough HTTP/1.1 for one small request on one connection. Owns parsing and its bounds.

Both servers of the agent use it instead of `http.server`: a probe each second for years should
cost microseconds, and what is not parsed cannot be abused. Every answer closes the connection.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

MAX_HEAD = 8 * 1024
METHODS = frozenset({"GET", "HEAD", "POST"})
_REASONS = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class BadRequest(Exception):
    """What the client sent is refused with `status` and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def read_request(sock: socket.socket, timeout: float, max_body: int) -> Request:
    """Read one request within `timeout` seconds over all; raises BadRequest or OSError."""
    deadline = time.monotonic() + timeout
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > MAX_HEAD:
            raise BadRequest(400, f"the request's head is longer than {MAX_HEAD} bytes")
        data += _receive(sock, deadline, len(data))
    head, _, body = data.partition(b"\r\n\r\n")
    method, path, headers = _parse_head(head)
    length = _length(headers, max_body)
    while len(body) < length:
        body += _receive(sock, deadline, len(body))
    return Request(method, path, headers, body[:length])


def respond(sock: socket.socket, status: int, content_type: str, body: bytes, head: bool) -> None:
    """Send a whole answer; `head` leaves the body out."""
    reason = _REASONS.get(status, "Error")
    start = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode("ascii")
    sock.sendall(start if head else start + body)


def linger(sock: socket.socket, seconds: float = 0.5, most: int = 1024 * 1024) -> None:
    """Take what a refused client still sends: closing at once would reset the connection, and
    the client would lose the answer that says why."""
    deadline = time.monotonic() + seconds
    try:
        sock.shutdown(socket.SHUT_WR)
        while most > 0 and (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            # Not through TLS, if there is any: only the amount matters.
            part = socket.socket.recv(sock, 65536)
            if not part:
                return
            most -= len(part)
    except OSError:
        pass  # the client is gone or goes on for too long


def _receive(sock: socket.socket, deadline: float, have: int) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise BadRequest(408, "the request did not arrive in time")
    sock.settimeout(left)
    try:
        part = sock.recv(16384)
    except TimeoutError:
        raise BadRequest(408, "the request did not arrive in time") from None
    if not part:
        if have:
            raise BadRequest(400, "the request broke off")
        raise ConnectionResetError("closed without a request")
    return part


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    try:
        first, *lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise BadRequest(400, "the request's head is not ASCII") from None
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        raise BadRequest(400, "the request line is malformed")
    if words[0] not in METHODS:
        raise BadRequest(405, "only GET, HEAD and POST are served")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400, "a header is malformed")
        key = name.lower()
        if key in headers and key in ("content-length", "transfer-encoding"):
            raise BadRequest(400, f"the header {key} appears twice")
        headers[key] = value.strip()
    return words[0], words[1].partition("?")[0], headers


def _length(headers: dict[str, str], max_body: int) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest(400, "bodies are read by Content-Length only")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest(400, "Content-Length is no number")
    if int(text) > max_body:
        raise BadRequest(413, f"the body is larger than {max_body} bytes")
    return int(text)
