"""The long work: clone, rewind, initdb. One at a time, in a thread, cancellable, with back-off.

It touches the data directory only while PostgreSQL is stopped; the rules see to that.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Literal

from pgha.clock import boottime
from pgha.facts import Job

Kind = Literal["clone", "rewind", "initdb"]
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds after a failure


class Jobs:
    """`work[kind](source, cancelled)` does it and raises with one sentence when it fails."""

    def __init__(
        self,
        work: dict[Kind, Callable[[str | None, Callable[[], bool]], None]],
        wake: Callable[[], None],
        log: Callable[..., None],
    ) -> None:
        self._work, self._wake, self._log = work, wake, log
        self._running = False
        self._cancel = threading.Event()
        self._kind = ""
        self._failed: str | None = None
        self._failures = 0
        self._retry_at = float("-inf")
        self.progress: tuple[int, int | None] | None = None
        self.ended = False  # set when a job ended and its outcome was not looked at yet

    def start(self, kind: Kind, source: str | None) -> None:
        if self._running:
            return
        self._running = True
        if kind != self._kind:
            self._failures = 0
        self._kind, self._failed, self.progress = kind, None, None
        self._cancel = threading.Event()
        threading.Thread(
            target=self._run, args=(kind, source, self._cancel), name=kind, daemon=True
        ).start()

    def cancel(self) -> None:
        self._cancel.set()

    def view(self) -> Job:
        return Job(
            self._kind, self._running, self._failed, self._failures,
            max(0.0, self._retry_at - boottime()),
        )

    def _run(self, kind: Kind, source: str | None, cancel: threading.Event) -> None:
        began = boottime()
        self._log("job-started", kind=kind, source=source)
        try:
            self._work[kind](source, cancel.is_set)
        except Exception as e:  # noqa: BLE001 - whatever it was, it is said and tried again
            self._failed, self._failures = str(e) or repr(e), self._failures + 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._failures - 1))
            self._retry_at = boottime() + pause * random.uniform(0.8, 1.2)
            self._log("job-failed", kind=kind, source=source, why=self._failed)
        else:
            self._failures, self._failed = 0, None
            self._log("job-done", kind=kind, source=source, seconds=round(boottime() - began, 2))
        self.ended, self._running = True, False
        self._wake()
