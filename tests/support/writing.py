"""One client that writes numbered rows all the while, and knows which were acknowledged."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psycopg

from tests.support.postgres import Cluster
from tests.support.waiting import until

PAUSE = 0.05


class Writer:
    """A thread that inserts 1, 2, 3… on fresh connections through the Service NAME.

    A number counts as acknowledged when the server said so; a failed one may be there or not.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._host = cluster.service_address()
        self._login = cluster.secret()
        self.acknowledged: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> Writer:
        with self._cluster.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS numbers")
            connection.execute("CREATE TABLE numbers (n int PRIMARY KEY)")
        self._thread.start()
        self.wait_for_more(3)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stop.set()
        self._thread.join(10)

    def wait_for_more(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many more writes were acknowledged than now."""
        goal = len(self.acknowledged) + count
        until(f"{count} more writes", lambda: len(self.acknowledged) >= goal, seconds, 0.1)

    def missing(self) -> list[int]:
        """Acknowledged numbers that are not in the table."""
        there = {n for (n,) in self._cluster.sql("SELECT n FROM numbers")}
        return [n for n in self.acknowledged if n not in there]

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                with psycopg.connect(
                    host=self._host, user=self._login["POSTGRES_USER"], autocommit=True,
                    password=self._login["POSTGRES_PASSWORD"], dbname=self._cluster.database,
                    connect_timeout=2, tcp_user_timeout=2000,
                ) as connection:  # fmt: skip
                    connection.execute("INSERT INTO numbers VALUES (%s)", (number,))
                    self.acknowledged.append(number)
            except psycopg.Error:
                pass
            time.sleep(PAUSE)
