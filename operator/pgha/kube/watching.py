"""A watch of a few objects that survives whatever the API server does. Owns one thread each.

List once, then watch from the list's resourceVersion, and again from the last one seen when a
stream ends. A new list follows on 410 (too old), and where the last version may be of a future that
etcd was restored from: 504 (too large), or a stream without even a bookmark. It decides nothing:
callbacks learn of changes and of the moment from which the objects may be out of date.
"""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import urllib3

from pgha.clock import boottime
from pgha.kube.client import Api
from pgha.kube.errors import ApiError, ApiUnreachable, Gone

log = logging.getLogger(__name__)

LIST_TIMEOUT = 5.0
STREAM_SECONDS = (240, 300)  # a random length, so that three agents do not reconnect at once
QUIET_SECONDS = 90.0  # the server sends a bookmark each minute; silence beyond is a hang
BACKOFF = (0.2, 2.0)
SETTLED_SECONDS = 5.0  # a stream that lasted so long was no failure
TOO_LARGE = 504  # the server waits for a version, and gives up
MAX_LINE = 4 * 1024 * 1024


class Watch:
    """Keeps `objects` (by name) as the API server has them; callbacks run on the watch's thread."""

    def __init__(
        self,
        api: Api,
        path: str,
        on_change: Callable[[dict[str, dict[str, Any]]], None],
        on_down: Callable[[str], None],
        field_selector: str | None = None,
        label_selector: str | None = None,
        quiet: float = QUIET_SECONDS,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._api, self._path = api, path
        self._on_change, self._on_down = on_change, on_down
        self._selectors = {
            key: value
            for key, value in (("fieldSelector", field_selector), ("labelSelector", label_selector))
            if value
        }
        self._quiet = quiet
        self._clock = clock
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._socket: socket.socket | None = None
        self._version: str | None = None
        self._objects: dict[str, dict[str, Any]] = {}
        self._synced_at: float | None = None
        self._connected = False
        self._failures = 0
        self._gone = 0
        self._told_down = False
        self.lists = 0
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    @property
    def objects(self) -> dict[str, dict[str, Any]]:
        """The last known objects by name; never changed in place."""
        return self._objects

    @property
    def synced_at(self) -> float | None:
        """CLOCK_BOOTTIME of the last word from the server; None before the first list."""
        return self._synced_at

    @property
    def connected(self) -> bool:
        """A stream is open. A dead network shows within about 11 s, a hung server by `quiet`."""
        return self._connected

    def start(self) -> Watch:
        self._thread.start()
        return self

    def refresh(self) -> None:
        """List anew at once, whatever the stream seems to say."""
        self._version = None
        self._break()

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread; no callback runs after this returned in time."""
        self._stopping.set()
        self._break()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _break(self) -> None:
        with self._guard:
            if self._socket is not None:
                try:
                    # The plain shutdown: that of SSLSocket takes the TLS object from the reader.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:
                    pass  # it is closed already, which is what was wanted

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._version is None:
                    self._list()
                self._follow()
            except Gone:
                self._version = None
                self._gone += 1
                if self._gone == 1:
                    continue  # an ordinary event: list again at once
                self._failed(ApiError(410, "Gone", f"{self._path}: the list is already too old"))
            except ApiError as error:
                if error.status == TOO_LARGE:
                    self._version = None
                self._failed(error)
            except Exception as error:  # a watch must outlive any surprise
                log.exception("watch %s", self._path)
                self._failed(ApiError(0, "Bug", f"watch of {self._path}: {error!r}"))

    def _failed(self, error: ApiError) -> None:
        if self._stopping.is_set():
            return
        self._failures += 1
        if self._failures > 1 and not self._told_down:
            # The first failure may be a stream that broke; the retry below tells.
            self._told_down = True
            self._call(self._on_down, error.message)
        if self._failures == 1 and isinstance(error, ApiUnreachable) and error.ambiguous:
            return
        low, high = BACKOFF
        wait = min(high, low * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        if error.retry_after is not None:
            wait = max(wait, min(error.retry_after, 10.0))
        self._stopping.wait(wait)

    def _list(self) -> None:
        asked_at = self._clock()
        self.lists += 1
        answer = self._api.request(
            "GET", self._path, timeout=LIST_TIMEOUT, query=self._selectors or None
        )
        found: dict[str, dict[str, Any]] = {}
        for item in answer.get("items") or []:
            name = _name(item)
            if name is not None:
                found[name] = item
        version = (answer.get("metadata") or {}).get("resourceVersion")
        if not version:
            raise ApiUnreachable(f"GET {self._path}: a list without resourceVersion")
        self._version = str(version)
        self._objects, self._synced_at = found, asked_at
        self._call(self._on_change, found)

    def _follow(self) -> None:
        query = {
            **self._selectors,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(random.randint(*STREAM_SECONDS)),
        }
        with self._api.stream(self._path, query, LIST_TIMEOUT, self._quiet) as response:
            sock = getattr(response.connection, "sock", None)
            with self._guard:
                self._socket = sock
            self._connected = True
            if sock is not None:
                sock.settimeout(self._quiet)
            opened_at = self._clock()
            try:
                pending, mute = b"", True
                while not self._stopping.is_set() and self._version is not None:
                    try:
                        part = response.read1(65536)
                    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                        if self._stopping.is_set() or self._version is None:
                            return
                        if mute and self._clock() - opened_at >= self._quiet:
                            self._version = None
                        raise ApiUnreachable(
                            f"watch of {self._path} broke off ({error})"
                        ) from error
                    if not part:
                        return
                    mute = False
                    *lines, pending = (pending + part).split(b"\n")
                    if len(pending) > MAX_LINE:
                        raise ApiError(0, "TooLarge", f"watch of {self._path}: an endless event")
                    self._absorb(lines)
            finally:
                self._connected = False
                with self._guard:
                    self._socket = None
                if self._clock() - opened_at >= SETTLED_SECONDS:
                    self._settled()

    def _absorb(self, lines: list[bytes]) -> None:
        found = dict(self._objects)
        changed, error = False, None
        for line in lines:
            if not line.strip():
                continue
            kind, item = _event(line, self._path)
            if kind == "ERROR":
                error = _error(item, self._path)
                break
            version = (item.get("metadata") or {}).get("resourceVersion")
            name = _name(item)
            if kind in ("ADDED", "MODIFIED") and name is not None:
                found[name], changed = item, True
            elif kind == "DELETED" and name is not None:
                changed = found.pop(name, None) is not None or changed
            if version and self._version is not None:  # None: refresh() asked for a list
                self._version = str(version)
        self._synced_at = self._clock()
        if changed:
            self._objects = found
            self._call(self._on_change, found)
        if error is not None:
            raise error
        self._settled()

    def _settled(self) -> None:
        self._failures = self._gone = 0
        self._told_down = False

    def _call(self, what: Callable[[Any], None], argument: Any) -> None:
        if self._stopping.is_set():
            return
        try:
            what(argument)
        except Exception:
            log.exception("a callback of the watch of %s failed", self._path)


def _name(item: object) -> str | None:
    if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
        return None
    name = item["metadata"].get("name")
    return name if isinstance(name, str) and name else None


def _event(line: bytes, path: str) -> tuple[str, dict[str, Any]]:
    try:
        loaded: Any = json.loads(line)
    except ValueError as error:
        raise ApiUnreachable(f"watch of {path}: an event that is no JSON") from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("object"), dict):
        raise ApiUnreachable(f"watch of {path}: an event without an object")
    return str(loaded.get("type")), loaded["object"]


def _error(status: Mapping[str, Any], path: str) -> ApiError:
    code, message = status.get("code"), str(status.get("message") or "no reason given")
    if code == 410:
        return Gone(410, "Gone", f"watch of {path}: {message}")
    number = code if isinstance(code, int) else 500
    return ApiError(number, str(status.get("reason") or number), f"watch of {path}: {message}")
