"""The agent's side of the fencer. Owns its process, its heartbeat and what it has confirmed.

Being allowed to write needs both: a deadline that the fencer has confirmed, and a recent answer of
its (law, amendment 1). While nothing is to be fenced no heartbeat is sent and idle costs nothing;
while armed, answers are read when somebody asks or with the next heartbeat, so that each costs one
wake-up.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgha.clock import boottime

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
HUNG_SECONDS = 3.0  # an unanswered heartbeat that old: the fencer is replaced
RESTART_SECONDS = 0.2


def default_command() -> list[str]:
    """The interpreter of this process; in the operator's folder a script that execs the loader."""
    script = str(Path(__file__).with_name("fencer.py"))
    return [sys.executable, "-I", "-S", "-E", script]


@dataclass(frozen=True)
class _Beat:
    number: int
    sent_at: float
    deadline: float | None


class Guard:
    """Starts the fencer, keeps it alive, and tells it until when PostgreSQL may be writable."""

    def __init__(
        self,
        command: Sequence[str] | None = None,
        namespace: bool | None = None,
        on_fenced: Callable[[float], None] | None = None,
        beat_every: float = BEAT_SECONDS,
        hung_after: float = HUNG_SECONDS,
        clock: Callable[[], float] = boottime,
    ) -> None:
        """`namespace`: use kill(-1); by default exactly when this process is PID 1."""
        self._command = list(default_command() if command is None else command)
        if os.getpid() == 1 if namespace is None else namespace:
            self._command.append("--namespace")
        self._on_fenced, self._clock = on_fenced, clock
        self._beat_every, self._hung_after = beat_every, hung_after
        self._lock = threading.Condition()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: socket.socket | None = None
        self._unanswered: deque[_Beat] = deque()
        self._number = 0
        self._last_sent = float("-inf")
        self._awaited = 0  # a heartbeat whose answer is wanted at once
        self._reports: list[float] = []
        self._deadline: float | None = None
        self._stopping = False
        self.answered_at = float("-inf")
        """When the newest answered heartbeat was sent: the fencer was alive then or later."""
        self.confirmed: float | None = None
        """The deadline of the newest answered message."""
        self.fenced_at: float | None = None
        """When the fencer last reported that everybody is dead."""
        self.starts = 0
        self._thread = threading.Thread(target=self._run, name="fencer guard", daemon=True)

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None else process.pid

    def start(self) -> Guard:
        """Start the process; raises OSError when that is impossible."""
        with self._lock:
            self._spawn()
        self._thread.start()
        return self

    def allow_until(self, deadline: float | None) -> None:
        """PostgreSQL may be writable until `deadline` (CLOCK_BOOTTIME); None: nothing to fence.

        Does not wait; see `confirmed`, `alive` and `ping`. A deadline that passed keeps the fencer
        killing whatever starts, so call it with None before starting PostgreSQL as a standby.
        """
        with self._lock:
            self._deadline = deadline
            self._send()
            self._awaited = self._number
        os.eventfd_write(self._wake, 1)

    def alive(self, within: float) -> bool:
        """A heartbeat sent in the last `within` seconds was answered."""
        with self._lock:
            if self._pipe is not None:
                self._receive()
            if self._reports:
                os.eventfd_write(self._wake, 1)
            return self._clock() - self.answered_at <= within

    def ping(self, timeout: float) -> bool:
        """Send a heartbeat now and wait for its answer; so True also means "confirmed"."""
        with self._lock:
            if not self._send():
                return False
            number = self._awaited = self._number
            os.eventfd_write(self._wake, 1)
            process = self._process
            return self._lock.wait_for(
                lambda: process is not self._process
                or not self._unanswered
                or self._unanswered[0].number > number,
                timeout,
            ) and process is self._process and self.answered_at > float("-inf")  # fmt: skip

    def stop(self) -> None:
        """Disarm and end the fencer: only after PostgreSQL has ended or cannot write."""
        self._stopping = True
        with self._lock:
            self._deadline = None
            self._send()
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join(2.0)
        with self._lock:
            self._discard(kill=False)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            try:
                self._process = subprocess.Popen(
                    [*self._command, "--fd", str(fd)], pass_fds=(fd,), start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/",
                    env={"LC_ALL": "C", "MALLOC_ARENA_MAX": "1"},
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._pipe = ours
        self._unanswered.clear()
        self.starts += 1
        self._send()

    def _discard(self, kill: bool) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        process, self._process = self._process, None
        if process is not None:
            if kill:
                process.kill()
            try:
                process.wait(1.0)  # ECHILD, where PID 1 has reaped it already, is no error here
            except subprocess.TimeoutExpired:
                log.warning("the fencer (PID %d) does not end", process.pid)
        self._unanswered.clear()
        self._lock.notify_all()

    def _send(self) -> bool:
        if self._pipe is None:
            return False
        self._number += 1
        beat = _Beat(self._number, self._clock(), self._deadline)
        deadline = "null" if beat.deadline is None else repr(float(beat.deadline))
        line = f'{{"deadline": {deadline}, "beat": {beat.number}}}\n'.encode()
        self._last_sent = beat.sent_at
        self._unanswered.append(beat)  # also when it cannot be sent: that is a missing answer
        try:
            return self._pipe.send(line) == len(line)
        except OSError:
            return False

    def _run(self) -> None:
        pipe: socket.socket | None = None
        waiting = select.poll()
        while not self._stopping:
            if self._pipe is None:
                self._restart()
                continue
            if self._pipe is not pipe:
                pipe, waiting = self._pipe, select.poll()
                waiting.register(self._wake, select.POLLIN)
                waiting.register(pipe, select.POLLIN)
            waiting.modify(pipe, select.POLLIN if self._eager() else 0)  # its end shows anyway
            if any(fd == self._wake for fd, _ in waiting.poll(self._patience())):
                os.eventfd_read(self._wake)
            with self._lock:
                if not self._receive():
                    if not self._stopping:
                        log.error("the fencer died: starting another")
                    self._discard(kill=True)
                elif self._hung():
                    log.error("the fencer does not answer: replacing it")
                    self._discard(kill=True)
                elif self._deadline is not None and (
                    self._clock() - self._last_sent >= self._beat_every
                ):
                    self._send()
                reports, self._reports = self._reports, []
            for at in reports:
                self._report(at)

    def _restart(self) -> None:
        with self._lock:
            try:
                self._spawn()
                return
            except OSError as error:
                log.error("the fencer cannot be started (%s)", error)
        waiting = select.poll()
        waiting.register(self._wake, select.POLLIN)
        waiting.poll(int(RESTART_SECONDS * 1000))

    def _eager(self) -> bool:
        """Whether to wake up for what the fencer says: an awaited answer, or a report."""
        with self._lock:
            awaited = bool(self._unanswered) and self._unanswered[0].number <= self._awaited
            return awaited or self._deadline is None or self._clock() >= self._deadline

    def _patience(self) -> int | None:
        """Milliseconds until the next heartbeat; None when there is nothing to fence."""
        with self._lock:
            if self._deadline is None:
                return 500 if self._unanswered else None
            now = self._clock()
            left = self._last_sent + self._beat_every - now
            if now < self._deadline:
                left = min(left, self._deadline - now)
        return max(10, int(left * 1000) + 1)

    def _hung(self) -> bool:
        # The pipe was emptied just now, so that a pause of this process is not held against it.
        return bool(self._unanswered) and (
            self._clock() - self._unanswered[0].sent_at > self._hung_after
        )

    def _receive(self) -> bool:
        """Take all answers; False when the fencer is gone."""
        data = b""
        assert self._pipe is not None
        while True:
            try:
                part = self._pipe.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                return False
            if not part:
                return False
            data += part
        for line in data.splitlines():
            message = json.loads(line)
            if "fenced" in message:
                self.fenced_at = float(message["fenced"])
                self._reports.append(self.fenced_at)
            if "beat" in message:
                self._answered(int(message["beat"]))
        return True

    def _answered(self, number: int) -> None:
        while self._unanswered and self._unanswered[0].number <= number:
            beat = self._unanswered.popleft()
            if beat.number == number:
                self.answered_at, self.confirmed = beat.sent_at, beat.deadline
        self._lock.notify_all()

    def _report(self, at: float) -> None:
        log.critical("the fencer ended everybody at %.3f", at)
        if self._on_fenced is not None:
            try:
                self._on_fenced(at)
            except Exception:
                log.exception("on_fenced")
