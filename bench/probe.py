"""The client: `python -m bench.probe` writes numbered rows until its standard input closes.

Owns the open loop and its deadlines; knows nothing of faults or systems. A fresh connection is
begun every INTERVAL, whether the last one answered or not, and one persistent connection writes
beside it. Prints the moment of each acknowledgement. libpq is driven without blocking, so that its
rounding of connect_timeout to whole seconds is no part of what is measured. A process of its own:
nobody else's garbage collection or interpreter lock delays it, and how late it was itself is
written down with each attempt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import selectors
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import pq

from bench.attempts import Attempt, Kind, Outcome, dump

INTERVAL = 0.02
CONNECT_SECONDS = 2.0  # for each host: the DSN's connect_timeout
ANSWER_SECONDS = 2.0
RETRY_SECONDS = 0.02  # between two tries of the persistent connection
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
INSERT = b"INSERT INTO %s VALUES ($1)"

# What an attempt waits for: the socket's number and the event, and until when.
Wait = tuple[int, int, float]
Steps = Generator[Wait, None, None]


class Failed(Exception):
    """The attempt is over; the text says why."""


@dataclass
class Target:
    """Where to write: a conninfo for each host, tried in turn as libpq does."""

    conninfos: list[bytes]
    table: str

    @property
    def statement(self) -> bytes:
        return INSERT % self.table.encode()


def connect(conninfo: bytes) -> Generator[Wait, None, pq.abc.PGconn]:
    """A connection to one host, within CONNECT_SECONDS."""
    until = time.monotonic() + CONNECT_SECONDS
    connection = pq.PGconn.connect_start(conninfo)
    try:
        if connection.status == pq.ConnStatus.BAD:
            raise Failed(connection.get_error_message())
        connection.nonblocking = 1
        # libpq wants to write first.
        yield connection.socket, WRITE, until
        while (state := connection.connect_poll()) != pq.PollingStatus.OK:
            if state == pq.PollingStatus.FAILED:
                raise Failed(connection.get_error_message())
            event = READ if state == pq.PollingStatus.READING else WRITE
            yield connection.socket, event, until
    except BaseException:
        connection.finish()
        raise
    return connection


def connect_any(target: Target) -> Generator[Wait, None, pq.abc.PGconn]:
    """The first host that takes us."""
    reasons = []
    for conninfo in target.conninfos:
        try:
            return (yield from connect(conninfo))
        except (Failed, psycopg.Error) as error:
            reasons.append(str(error).strip())
    raise Failed("; ".join(reasons))


def insert(connection: pq.abc.PGconn, target: Target, number: int) -> Steps:
    """One row; returns when the server has acknowledged it."""
    until = time.monotonic() + ANSWER_SECONDS
    connection.send_query_params(target.statement, [str(number).encode()])
    while connection.flush():
        yield connection.socket, WRITE, until
    answered = False
    while True:
        while connection.is_busy():
            yield connection.socket, READ, until
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            break
        if result.status != pq.ExecStatus.COMMAND_OK:
            state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
            raise Refused(result.get_error_message(), state.decode())
        answered = True
    if not answered:
        raise Failed("no answer")


class Refused(Failed):
    """The server answered that it did not do it."""

    def __init__(self, text: str, state: str) -> None:
        super().__init__(text)
        # 57P0x: the connection ended while the statement ran, which may have been committed.
        self.certain = state not in ("", "57P01", "57P02", "57P03", "XX000")


class Probe:
    """One loop over all attempts under way."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.attempts: list[Attempt] = []
        self._numbers = itertools.count(1)
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[Steps, tuple[int, float]] = {}
        self._sleeping: list[tuple[float, Callable[[], None]]] = []
        self._kept: pq.abc.PGconn | None = None

    def run(self, ended: Callable[[], bool]) -> None:
        due = time.monotonic()
        self._begin("persistent", due)
        while not ended():
            now = time.monotonic()
            while due <= now:
                self._begin("fresh", due)
                due += INTERVAL
            for at, action in [s for s in self._sleeping if s[0] <= now]:
                self._sleeping.remove((at, action))
                action()
            self._poll(due)
        finish = time.monotonic() + CONNECT_SECONDS
        while self._waiting and time.monotonic() < finish:
            self._poll(finish)

    def _poll(self, until: float) -> None:
        times = [until, *(at for at, _ in self._sleeping), *(u for _, u in self._waiting.values())]
        for key, _ in self._selector.select(max(0.0, min(times) - time.monotonic())):
            self._step(key.data, None)
        now = time.monotonic()
        for steps in [s for s, (_, late) in self._waiting.items() if late <= now]:
            self._step(steps, Failed("no answer in time"))

    def _begin(self, kind: Kind, due: float) -> None:
        self._step(self._attempt(kind, due), None)

    def _step(self, steps: Steps, error: Failed | None) -> None:
        if steps in self._waiting:
            self._selector.unregister(self._waiting.pop(steps)[0])
        try:
            socket, event, until = steps.throw(error) if error else next(steps)
        except StopIteration:
            return
        self._selector.register(socket, event, steps)
        self._waiting[steps] = socket, until

    def _attempt(self, kind: Kind, due: float) -> Steps:
        number, begun = next(self._numbers), time.monotonic()
        outcome: Outcome = "no"
        server, why = "", ""
        connection = self._kept if kind == "persistent" else None
        self._kept = None if kind == "persistent" else self._kept
        try:
            if connection is None:
                connection = yield from connect_any(self.target)
            server = connection.hostaddr.decode()
            outcome = "unknown"
            yield from insert(connection, self.target, number)
            outcome = "ok"
        except Refused as error:
            outcome, why = ("no" if error.certain else "unknown"), str(error)
        except (Failed, psycopg.Error) as error:
            why = str(error)
        now = time.monotonic()
        if outcome == "ok":
            print(f"{now:.6f}", flush=True)
        self.attempts.append(
            Attempt(kind, number, due, begun, now, outcome, server, why.strip()[:200])
        )
        if kind == "persistent":
            self._kept, connection = (connection, None) if outcome == "ok" else (None, connection)
            again = now + (INTERVAL if outcome == "ok" else RETRY_SECONDS)
            self._sleeping.append((again, lambda: self._begin("persistent", again)))
        if connection is not None:
            connection.finish()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.probe", description=__doc__)
    parser.add_argument("--into", type=Path, required=True)
    options = parser.parse_args(arguments)
    # The conninfos hold a password, so they come by the standard input, one line of JSON.
    given = json.loads(sys.stdin.buffer.raw.readline())  # type: ignore[union-attr]
    target = Target([text.encode() for text in given["conninfos"]], given["table"])
    probe = Probe(target)
    closed = selectors.DefaultSelector()
    closed.register(sys.stdin.fileno(), READ)
    probe.run(lambda: bool(closed.select(0)))
    dump(probe.attempts, options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
