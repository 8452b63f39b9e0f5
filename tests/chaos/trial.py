"""One trial: clients write, a nemesis strikes at a random moment, everything must come back.

Owns the order of a trial and what is read at its end; the judgement is the checker's.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time

import psycopg

from tests.chaos.clients import RATE, SCHEMA, Clients
from tests.chaos.history import History
from tests.chaos.nemeses import Nemesis
from tests.chaos.watching import Watcher
from tests.support.postgres import FETCHING, Cluster
from tests.support.waiting import until

REDUNDANT_WITHIN = 150.0
QUIET = 1.5  # seconds of writing before and after, so that a gap has two ends


def run_trial(
    cluster: Cluster, mode: str, synchronous: bool, nemesis: Nemesis, members: int = 3,
    every: float = RATE,
) -> History:  # fmt: skip
    """Strike once. The history says itself if redundancy did not come back. `every`: seconds
    between two writes on fresh connections."""
    cluster.wait_healthy(members, REDUNDANT_WITHIN)
    history = History(nemesis.name, mode, synchronous)
    clients = Clients(_login(cluster), every)
    history.ops = clients.ops
    with cluster.connect() as connection:
        connection.execute(SCHEMA)
    if synchronous:
        until("a quorum", lambda: "quorum" in cluster.streaming().values(), 60, 0.3, FETCHING)
    watcher = Watcher(cluster, history)
    watcher.start()
    clients.start()
    try:
        until("the first writes", lambda: len(history.acknowledged("append")) > 5, 30, 0.1)
        until("the watches", lambda: history.roles and history.leases, 10, 0.1)
        # At a random moment, not at a fixed phase of anybody's timers.
        _write_on(QUIET + random.uniform(0.0, 2.0))
        primary = cluster.primary()
        history.neighbours = [p.name for p in cluster.replicas() if p.node == primary.node]
        history.struck = time.monotonic()
        with nemesis.harm(cluster, primary):
            _write_on(nemesis.lasts)
        history.mended = time.monotonic()
        history.redundant = _lasting_redundancy(cluster, members)
    finally:
        clients.stop()
        watcher.stop()
    history.ended = time.monotonic()
    _read_back(cluster, history)
    return history


def _lasting_redundancy(cluster: Cluster, members: int) -> float:
    """When full redundancy came back to stay; 0.0 if it did not.

    Right after a strike all may look well still, so it has to last for a while of writing.
    """
    deadline = time.monotonic() + REDUNDANT_WITHIN
    while True:
        try:
            cluster.wait_healthy(members, max(1.0, deadline - time.monotonic()))
        except AssertionError as error:
            print(error)
            return 0.0
        since = time.monotonic()
        _write_on(QUIET)
        with contextlib.suppress(AssertionError, *FETCHING):
            cluster.check(members)
            return since


def _write_on(seconds: float) -> None:
    """Let the clients write: the length of a fault is what is being tested, not waited for."""
    threading.Event().wait(seconds)


def _login(cluster: Cluster) -> dict[str, object]:
    login = cluster.secret()
    return {
        "host": cluster.service_address(),
        "user": login["POSTGRES_USER"],
        "password": login["POSTGRES_PASSWORD"],
        "dbname": cluster.database,
        "sslmode": "disable",
        "connect_timeout": 2,
        "tcp_user_timeout": 2000,
    }


def _read_back(cluster: Cluster, history: History) -> None:
    """What the database has; read through the Service, as a client would."""

    def read() -> bool:
        with cluster.connect() as connection:
            with connection.transaction():
                connection.execute("CREATE TEMPORARY TABLE chaos_writable (n int)")
            history.rows = [n for (n,) in connection.execute("SELECT id FROM chaos_rows")]
            lists = connection.execute("SELECT key, items FROM chaos_lists").fetchall()
            history.lists = {int(key): list(items) for key, items in lists}
        return True

    try:
        until("the rows at the end", read, 30, 0.5, (psycopg.Error,))
    except AssertionError as error:
        print(error)
