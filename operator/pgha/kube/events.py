"""Events (core/v1) for people: repeats become one Event with a count, floods are dropped.

Owns what was sent and when. Called under the lock of `Errands` (add, pending, next_due) or by its
one worker (send).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgha.kube.client import MERGE_PATCH, Api
from pgha.kube.errors import ApiError, NotFound

log = logging.getLogger(__name__)

FORGET = 600.0  # seconds after which a repeat is a new Event
REPEAT = 60.0  # seconds between two writes of one Event's count
BURST, REFILL = 25, 12.0  # new Events at once, and seconds until one more is allowed
ATTEMPTS = 8
MAX_SENTENCE = 1000  # the API refuses messages over 1024 characters
CALL_TIMEOUT = 3.0


@dataclass
class _Entry:
    kind: str
    reason: str
    sentence: str
    warning: bool
    first: float
    last: float
    count: int = 1
    sent_count: int = 0
    sent_at: float = float("-inf")
    name: str | None = None
    attempts: int = 0


class EventLog:
    """Collects sentences and writes them; `send` raises ApiError when it should be retried."""

    def __init__(
        self, api: Api, pod: str, uid: str, lease: str, clock: Callable[[], float]
    ) -> None:
        self._api, self._pod, self._uid, self._lease = api, pod, uid, lease
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str, str], _Entry] = {}
        self._tokens = float(BURST)
        self._filled_at = clock()
        self.dropped = 0

    def add(self, kind: str, reason: str, sentence: str, warning: bool) -> bool:
        """False when it was dropped: more new Events than the rate allows."""
        if kind not in ("Pod", "Lease"):
            raise ValueError(f'an Event is on a "Pod" or a "Lease", not on a "{kind}"')
        sentence = sentence[:MAX_SENTENCE]
        now, wall = self._clock(), time.time()
        key = (kind, reason, sentence)
        with self._lock:
            for old in [k for k, e in self._entries.items() if now - e.sent_at > FORGET
                        and e.sent_count == e.count]:  # fmt: skip
                del self._entries[old]
            known = self._entries.get(key)
            if known is not None:
                known.count, known.last = known.count + 1, wall
                return True
            self._tokens = min(float(BURST), self._tokens + (now - self._filled_at) / REFILL)
            self._filled_at = now
            if self._tokens < 1.0:
                self.dropped += 1
                return False
            self._tokens -= 1.0
            self._entries[key] = _Entry(kind, reason, sentence, warning, wall, wall)
            return True

    def pending(self) -> bool:
        """Something is to be sent now."""
        return self._next() is not None

    def next_due(self) -> float | None:
        """When (clock seconds) a repeat that is held back becomes due."""
        with self._lock:
            times = [
                entry.sent_at + REPEAT
                for entry in self._entries.values()
                if 0 < entry.sent_count < entry.count
            ]
        return min(times) if times else None

    def send(self) -> None:
        """Write one Event."""
        entry = self._next()
        if entry is None:
            return
        count, last = entry.count, entry.last
        folder = f"/api/v1/namespaces/{self._api.namespace}/events"
        try:
            if entry.name is not None:
                try:
                    self._api.request(
                        "PATCH", f"{folder}/{entry.name}",
                        {"count": count, "lastTimestamp": _time(last)}, MERGE_PATCH, CALL_TIMEOUT,
                    )  # fmt: skip
                except NotFound:
                    entry.name = None
            if entry.name is None:
                body = self._body(entry, count, last)
                self._api.request("POST", folder, body, timeout=CALL_TIMEOUT)
                entry.name = body["metadata"]["name"]
        except ApiError as error:
            entry.attempts += 1
            if entry.attempts < ATTEMPTS:
                raise
            log.warning("Event %s given up: %s", entry.reason, error.message)
        entry.attempts = 0
        entry.sent_count, entry.sent_at = count, self._clock()

    def _next(self) -> _Entry | None:
        now = self._clock()
        with self._lock:
            for entry in self._entries.values():
                if entry.count > entry.sent_count and now - entry.sent_at >= REPEAT:
                    return entry
        return None

    def _body(self, entry: _Entry, count: int, last: float) -> dict[str, Any]:
        about: dict[str, Any] = {"kind": entry.kind, "namespace": self._api.namespace}
        if entry.kind == "Pod":
            about |= {"apiVersion": "v1", "name": self._pod, "uid": self._uid}
        else:
            about |= {"apiVersion": "coordination.k8s.io/v1", "name": self._lease}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{about['name']}.{uuid.uuid4().hex[:16]}",
                "namespace": self._api.namespace,
            },
            "involvedObject": about,
            "reason": entry.reason,
            "message": entry.sentence,
            "type": "Warning" if entry.warning else "Normal",
            "source": {"component": "pgha"},
            "reportingComponent": "pgha.dev/agent",
            "reportingInstance": self._pod,
            "firstTimestamp": _time(entry.first),
            "lastTimestamp": _time(last),
            "count": count,
        }


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
