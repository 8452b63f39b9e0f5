"""Where the agent connects when the database `postgres` lets nobody in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pgha.postgres import sql
from pgha.postgres.sql import INSTEAD_FOR, Alive, Sql, SqlError
from pgha.postgres.wire import WireError

pytestmark = pytest.mark.unit

GONE = WireError("refused", 'FATAL:  database "postgres" does not exist')
FULL = WireError("refused", "FATAL:  sorry, too many clients already")


class Databases:
    """What each database answers; those that are not named let the agent in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.refused = 100.0, dict[str, WireError]()
        self.asked: list[str] = []
        self.sql = Sql(Path("/nowhere"), "postgres")
        monkeypatch.setattr(sql, "connected", self.connected)
        monkeypatch.setattr(sql.time, "monotonic", lambda: self.now)

    @contextmanager
    def connected(self, where: Mapping[str, str], timeout: float) -> Iterator[Any]:
        name = where["dbname"]
        self.asked.append(name)
        if name in self.refused:
            raise self.refused[name]
        yield self

    def ask(self, statement: str, *values: str) -> list[Any]:
        if "broken" in self.refused:
            raise self.refused["broken"]
        return [("000000030000000000000001",)]

    def timeline(self) -> tuple[int | None, list[str]]:
        self.asked.clear()
        return self.sql.timeline(1.0), list(self.asked)


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> Databases:
    return Databases(monkeypatch)


def test_another_database_is_used_when_the_usual_one_is_gone(databases: Databases) -> None:
    assert databases.timeline() == (3, ["postgres"])
    databases.refused["postgres"] = GONE
    assert databases.timeline() == (3, ["postgres", "template1"])
    assert databases.timeline() == (3, ["template1"]), "and that is remembered"
    databases.now += INSTEAD_FOR
    assert databases.timeline() == (3, ["postgres", "template1"]), "for a while"
    databases.now += INSTEAD_FOR
    databases.refused.clear()
    assert databases.timeline() == (3, ["postgres"]), "it was made again"
    databases.refused.update(postgres=GONE)
    databases.timeline()
    databases.refused = {"template1": FULL}
    assert databases.timeline() == (3, ["template1", "postgres"])


def test_what_is_refused_everywhere_is_told_as_it_was_at_first(databases: Databases) -> None:
    databases.refused = {"postgres": FULL, "template1": GONE}
    with pytest.raises(SqlError, match="too many clients"):
        databases.sql.sync_names()
    assert databases.sql.alive(1.0) is Alive.BUSY_OR_REFUSING


@pytest.mark.parametrize("failure, alive", [
    (WireError("silent", "it did not answer in time"), Alive.SILENT),
    (WireError("gone", "connection refused"), Alive.SILENT),
    (WireError("refused", "FATAL:  could not read file: Input/output error"), Alive.IO_ERROR),
])
def test_illness_is_not_passed_over(
    databases: Databases, failure: WireError, alive: Alive
) -> None:
    databases.refused["postgres"] = failure
    assert databases.sql.alive(1.0) is alive
    assert databases.asked == ["postgres"]


def test_a_statement_that_fails_is_not_tried_elsewhere(databases: Databases) -> None:
    databases.refused["broken"] = WireError("refused", "ERROR:  division by zero", "22012")
    assert databases.timeline() == (None, ["postgres"])
