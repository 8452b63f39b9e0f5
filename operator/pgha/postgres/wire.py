"""One connection whose every wait has a deadline. Owns the conversation with libpq, and no SQL.

`statement_timeout` is the server's promise: a backend that is stopped, or whose disk hangs, does
not keep it, and psycopg then waits for ever. So libpq is driven asynchronously (libpq
documentation, "Asynchronous Command Processing"), and what is late is hung up on.
"""

from __future__ import annotations

import errno
import os
import re
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

Row = tuple[str | None, ...]
Kind = Literal["silent", "gone", "refused"]

# What a server says begins with a severity, in whatever language, and two blanks (libpq).
_SAID = re.compile(r"failed: [^\s:]+:  ")
_GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_IO_ERROR = os.strerror(errno.EIO)


class WireError(Exception):
    """One sentence, and how it failed.

    silent: no answer by the deadline. gone: nobody listens, or the connection broke. refused: the
    server answered with an error, of `sqlstate` where it told one (it does not for a connection
    that it refuses).
    """

    def __init__(self, kind: Kind, text: str, sqlstate: str | None = None) -> None:
        super().__init__(text.strip().splitlines()[0] if text.strip() else kind)
        self.kind, self.sqlstate = kind, sqlstate
        self.io_error = sqlstate == "58030" or sqlstate is None and _IO_ERROR in text


class Wire:
    """A connection to one server, from `connected`. Values travel as text."""

    def __init__(self, connection: PGconn, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def ask(self, statement: str, *values: str | None) -> list[Row]:
        """The rows of one statement. Raises WireError."""
        c = self._connection
        try:
            c.send_query_params(
                statement.encode(), [None if v is None else v.encode() for v in values]
            )
            self._flush()
            rows: list[Row] = []
            while True:
                if (result := self._result()) is None:
                    return rows
                if result.status not in _GOOD:
                    raise self._refusal(result)
                rows = [
                    tuple(
                        None if (value := result.get_value(r, column)) is None else value.decode()
                        for column in range(result.nfields)
                    )
                    for r in range(result.ntuples)
                ]
        except psycopg.Error as e:
            raise WireError("gone", str(e)) from e

    def stream(self, command: str) -> None:
        """Returns with the first that START_REPLICATION sends, or with the end of the timeline
        that was asked for. Raises WireError with the server's refusal."""
        c = self._connection
        try:
            c.send_query(command.encode())
            self._flush()
            result = self._result()
            if result is not None and result.status == pq.ExecStatus.COPY_BOTH:
                while (size := c.get_copy_data(1)[0]) == 0:
                    self._wait(select.POLLIN)
                    c.consume_input()
                if size > 0:
                    return
                result = c.get_result()
            if result is None:
                raise WireError("gone", "it ended the connection")
            if result.status not in _GOOD:
                raise self._refusal(result)
        except psycopg.Error as e:
            raise WireError("gone", str(e)) from e

    def _flush(self) -> None:
        while self._connection.flush() == 1:
            self._wait(select.POLLIN | select.POLLOUT)
            self._connection.consume_input()

    def _result(self) -> pq.abc.PGresult | None:
        """The next one, or None after the last."""
        while self._connection.is_busy():
            self._wait(select.POLLIN)
            self._connection.consume_input()
        return self._connection.get_result()

    def identifier(self, name: str) -> str:
        return pq.Escaping(self._connection).escape_identifier(name.encode()).decode()

    def literal(self, text: str) -> str:
        return pq.Escaping(self._connection).escape_literal(text.encode()).decode()

    def scram_verifier(self, password: str, role: str) -> str:
        """What PostgreSQL keeps of a password; made here, so that the password stays here."""
        c = self._connection
        return c.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()

    def establish(self) -> None:
        """Raises WireError."""
        c = self._connection
        while True:
            status = c.connect_poll()
            if status == pq.PollingStatus.OK:
                c.nonblocking = 1
                return
            if status == pq.PollingStatus.FAILED:
                text = c.error_message.decode(errors="replace")
                raise WireError("refused" if _SAID.search(text) else "gone", text)
            reading = status == pq.PollingStatus.READING
            self._wait(select.POLLIN if reading else select.POLLOUT)

    def _refusal(self, result: PGresult) -> WireError:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        severity = result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED)
        text = result.error_message.decode(errors="replace")
        # libpq makes up a result without a state when the server hung up.
        gone = state is None or severity == b"PANIC" and state != b"53100"
        return WireError("gone" if gone else "refused", text, state.decode() if state else None)

    def _wait(self, events: int) -> None:
        left = self._deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._connection.socket, events)
        if left <= 0 or not poll.poll(left * 1000):
            raise WireError("silent", "it did not answer in time")


@contextmanager
def connected(where: Mapping[str, str], timeout: float) -> Iterator[Wire]:
    """A connection for at most `timeout` seconds, all its statements included."""
    deadline = time.monotonic() + timeout
    info = " ".join(f"{k}='{_quoted(v)}'" for k, v in where.items())
    try:
        connection = pq.PGconn.connect_start(info.encode())
    except psycopg.Error as e:
        raise WireError("gone", str(e)) from e
    connection.notice_handler = None
    try:
        wire = Wire(connection, deadline)
        wire.establish()
        yield wire
    finally:
        connection.finish()


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
