"""Clients that write all the while. Owns the writers and what they believe of each write.

Open loop: a write on a fresh connection is begun at a fixed rate, whether the last one answered or
not, beside one persistent connection that appends to lists. Everything runs in a thread of its own
with an event loop, so that a hanging connection delays no other.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg
from psycopg import errors

from tests.chaos.history import Op, Outcome

RATE = 0.05  # seconds between two writes on fresh connections
PAUSE = 0.03  # seconds between two writes on the persistent one
DEADLINE = 2.0  # seconds after which a write is given up, its outcome unknown
APPENDS_PER_LIST = 60

INSERT = (
    "INSERT INTO chaos_rows VALUES (%s) RETURNING host(inet_server_addr()), "
    "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int, NULL::int[]"
)
APPEND = (
    "INSERT INTO chaos_lists AS l VALUES (%s, ARRAY[%s]) ON CONFLICT (key) "
    "DO UPDATE SET items = l.items || excluded.items RETURNING host(inet_server_addr()), "
    "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int, items"
)
SCHEMA = (
    "DROP TABLE IF EXISTS chaos_rows, chaos_lists; CREATE TABLE chaos_rows (id int); "
    "CREATE TABLE chaos_lists (key int PRIMARY KEY, items int[] NOT NULL)"
)
# The server answered that it did not do it; anything else after sending leaves it open.
REFUSALS = (
    errors.ReadOnlySqlTransaction,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.LockNotAvailable,
)


@dataclass
class Clients:
    """The writers of one trial. `login` are libpq's parameters of the Service NAME, `every` the
    seconds between two writes on fresh connections."""

    login: dict[str, Any]
    every: float = RATE
    ops: list[Op] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the writes that are under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(DEADLINE * 3)

    def _run(self) -> None:
        asyncio.run(self._both())

    async def _both(self) -> None:
        await asyncio.gather(self._fresh(), self._persistent())

    async def _fresh(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._stop.is_set():
            task = asyncio.create_task(self._one_fresh(next(self._numbers)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due = max(due + self.every, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*under_way)

    async def _one_fresh(self, number: int) -> None:
        async def write(sent: Callable[[], None]) -> tuple[Any, ...]:
            connection = await self._connect()
            async with connection:
                return await _execute(connection, INSERT, (number,), sent)

        await self._record("insert", "fresh", number, 0, write)

    async def _persistent(self) -> None:
        connection: psycopg.AsyncConnection[Any] | None = None
        while not self._stop.is_set():
            number = next(self._numbers)
            key = number // APPENDS_PER_LIST

            async def write(
                sent: Callable[[], None], number: int = number, key: int = key
            ) -> tuple[Any, ...]:
                nonlocal connection
                if connection is None:
                    connection = await self._connect()
                return await _execute(connection, APPEND, (key, number), sent)

            if not await self._record("append", "persistent", number, key, write):
                # What a pool does with a connection that failed: throw it away.
                if connection is not None:
                    await connection.close()
                connection = None
            await asyncio.sleep(PAUSE)
        if connection is not None:
            await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(**self.login, autocommit=True)

    async def _record(
        self,
        kind: Literal["insert", "append"],
        client: Literal["fresh", "persistent"],
        number: int,
        key: int,
        write: Callable[[Callable[[], None]], Any],
    ) -> bool:
        started = time.monotonic()
        outcome: Outcome = "fail"
        why, server, timeline = "", "", 0
        seen: tuple[int, ...] = ()

        def sent() -> None:
            nonlocal outcome
            outcome = "unknown"

        try:
            async with asyncio.timeout(DEADLINE):
                server, timeline, items = await write(sent)
            outcome, seen = "ok", tuple(items or ())
        except REFUSALS as error:
            outcome, why = "fail", str(error)
        except (psycopg.Error, OSError, TimeoutError) as error:
            why = str(error) or repr(error)
        self.ops.append(
            Op(kind, client, number, key, started, time.monotonic(), outcome, server, timeline,
               seen, why[:200])
        )  # fmt: skip
        return outcome == "ok"


async def _execute(
    connection: psycopg.AsyncConnection[Any], query: str, values: tuple[int, ...],
    sent: Callable[[], None],
) -> tuple[Any, ...]:  # fmt: skip
    """One statement. An answer that came with a warning is none: a wait for standbys that was
    cancelled is answered as a success (docs/safety.md)."""
    warnings: list[str] = []
    connection.add_notice_handler(lambda notice: warnings.append(str(notice.message_primary)))
    sent()
    statement: Any = query
    cursor = await connection.execute(statement, values)
    row = await cursor.fetchone()
    if warnings:
        raise psycopg.OperationalError(f"acknowledged with a warning: {warnings[0]}")
    assert row is not None
    return tuple(row)
