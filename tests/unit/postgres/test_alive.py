"""Which failures of the probe are life, silence and illness (law, point 3; amendment 15)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pgha.postgres import sql
from pgha.postgres.sql import Alive, Sql, SqlError
from pgha.postgres.wire import WireError

pytestmark = pytest.mark.unit

BUSY, SILENT, ILL = Alive.BUSY_OR_REFUSING, Alive.SILENT, Alive.IO_ERROR


@pytest.mark.parametrize(("failure", "expected"), [
    (WireError("refused", "FATAL:  sorry, too many clients already"), BUSY),
    (WireError("refused", "FATAL:  the database system is starting up"), BUSY),
    (WireError("refused", "ERROR:  No space left on device", "53100"), BUSY),
    (WireError("refused", "ERROR:  out of memory", "53200"), BUSY),
    (WireError("refused", "ERROR:  read-only transaction", "25006"), BUSY),
    (WireError("refused", "ERROR:  could not read block 1", "58030"), ILL),
    (WireError("refused", "FATAL:  could not read file: Input/output error"), ILL),
    (WireError("silent", "it did not answer in time"), SILENT),
    (WireError("gone", "connection refused"), SILENT),
])  # fmt: skip
def test_a_failed_probe(
    monkeypatch: pytest.MonkeyPatch, failure: WireError, expected: Alive
) -> None:
    @contextmanager
    def failing(where: Any, timeout: float) -> Iterator[Any]:
        raise failure
        yield

    monkeypatch.setattr(sql, "connected", failing)
    probe = Sql(Path("/nowhere"), "postgres")
    assert probe.alive(1.0) is expected
    assert probe.look(1.0).alive is expected
    assert probe.timeline(1.0) is None
    with pytest.raises(SqlError, match="PostgreSQL here"):
        probe.flush_lsn()


def test_what_fails_after_the_probe_is_no_illness(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once:
        asked = 0

        def ask(self, statement: str, *values: str) -> list[Any]:
            self.asked += 1
            if self.asked > 1:
                raise WireError("silent", "it did not answer in time")
            return [("0/0",)]

    @contextmanager
    def one(where: Any, timeout: float) -> Iterator[Any]:
        yield Once()

    monkeypatch.setattr(sql, "connected", one)
    look = Sql(Path("/nowhere"), "postgres").look(1.0)
    assert look.alive is Alive.ALIVE
    assert look.flush is None


@pytest.mark.parametrize("inside", [False, True])
def test_a_statement_that_fails_was_carried_out_and_a_refused_connection_was_not(
    monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    failure = WireError("refused", "ERROR:  No space left on device", "53100")

    class Full:
        def ask(self, statement: str, *values: str) -> list[Any]:
            raise failure

    @contextmanager
    def connection(where: Any, timeout: float) -> Iterator[Any]:
        if not inside:
            raise failure
        yield Full()

    monkeypatch.setattr(sql, "connected", connection)
    look = Sql(Path("/nowhere"), "postgres").look(1.0)
    assert (look.alive, look.connected) == (BUSY, inside)
