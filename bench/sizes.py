"""How things grow with a cluster: 1 to 9 members, databases of any size, rates of WAL.

Each is measured on real members. A standby's copy is made anew by taking its pod and its claim
away; a rewind by letting the primary write what nobody receives before it is lost. What a pod has
received is read from its own network counters, which begin with the pod.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench.cost import pgbench
from bench.faults import FAULTS, container_of
from bench.results import read
from bench.systems import MEMBERS, Pgha
from lab.cluster import Lab
from lab.processes import PROC
from tests.support.kube import CLAIMS, LEASES, Kube
from tests.support.postgres import FETCHING
from tests.support.waiting import until

MB = 1_000_000
SCALE_MB = 15.0  # of one unit of pgbench's scale, about
ROOM_MB = 4000  # beside three copies: WAL of the loading and of the rates
LOAD_SECONDS = 3600.0
COPY_SECONDS = 4 * 3600.0
WRITERS = (1, 4, 16)
LOST_ROWS = 20_000  # that the former primary alone has: about 5 MB of WAL
BULK = "INSERT INTO bulk SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, %s) n"
BULK_ROWS = 5000  # a statement
POSTGRES_PORT = 5432


@contextlib.contextmanager
def cluster(
    lab: Lab, kube: Kube, config: dict[str, Any], members: int, room_mb: float
) -> Iterator[tuple[Pgha, float]]:
    """One cluster, and the seconds from the declaration to full redundancy."""
    size = {"storage": {"resources": {"requests": {"storage": f"{math.ceil(room_mb)}M"}}}}
    system = Pgha(lab, kube, "sizes", {**config, **size, "replicas": members})
    started = time.monotonic()
    try:
        system.up()
        system.cluster.wait_healthy(members, 120.0 + 30.0 * members)
        yield system, time.monotonic() - started
    finally:
        lab.faults.mend_all()
        system.down()


def replicas(lab: Lab, kube: Kube, config: dict[str, Any], members: int) -> dict[str, Any]:
    """One number of members: seconds until all are there, and of a switchover."""
    with cluster(lab, kube, config, members, 1000) as (system, up):
        found: dict[str, Any] = {"members": members, "all there s": up}
        if members > 1:
            primary = system.cluster.primary().name
            started = time.monotonic()
            said = system.cluster.pgha("switchover", pod=primary)
            found["switchover command s"] = time.monotonic() - started
            assert said.returncode == 0, f"switchover of {members} members: {said.stderr[-500:]}"
            system.cluster.wait_healthy(members, 120.0)
            found["all streaming again s"] = time.monotonic() - started
        return found


def database(system: Pgha, megabytes: int) -> dict[str, Any]:
    """One size of the database: loading it, a clone, a rewind."""
    primary = system.wait_healthy()
    scale = max(1, round(megabytes / SCALE_MB))
    started = time.monotonic()
    made = pgbench(system, primary, "-i", "-q", "-s", str(scale))
    assert made.returncode == 0, f"pgbench -i -s {scale}: {made.stderr[-500:]}"
    loaded = time.monotonic() - started
    size = system.cluster.sql("SELECT sum(pg_database_size(oid)) FROM pg_database")[0][0]
    system.wait_healthy()
    return {
        "asked MB": megabytes, "MB": float(size) / MB, "loaded s": loaded,
        **{f"clone {k}": v for k, v in clone(system).items()},
        **{f"rewind {k}": v for k, v in rewind(system).items()},
    }  # fmt: skip


def clone(system: Pgha) -> dict[str, float]:
    """A standby whose volume is lost: its copy, and until the cluster is whole."""
    primary = system.wait_healthy()
    name = sorted(set(system.pods()) - {primary})[0]
    before = system.pods()[name].uid
    started = time.monotonic()
    system.kube.delete(system.kube.path(system.namespace, CLAIMS, f"data-{name}"))
    system.kube.delete(system.kube.path(system.namespace, "pods", name))
    until(f"a new pod {name}", lambda: new_pod(system, name, before), 120, 0.1)
    copied = until(
        f"{name}'s clone", lambda: job(logs(system, name), "clone"), COPY_SECONDS, 0.5, FETCHING
    )
    system.wait_healthy()
    whole = time.monotonic() - started
    assert copied is not None
    return {"s": copied, "whole s": whole, "received MB": received(system, name) / MB}


def rewind(system: Pgha) -> dict[str, float]:
    """A primary that is lost with rows that nobody else has, and comes back: its agent is stopped,
    and what it sends to the standbys is dropped."""
    primary = system.wait_healthy()
    pod = container_of(system, primary)
    standbys = [p.address for n, p in system.pods().items() if n != primary]
    harm = FAULTS["agent-stop"].prepare(system, primary)
    system.cluster.sql("CREATE TABLE IF NOT EXISTS bulk (n int, text text)")
    until("the standbys to have the table", lambda: behind(system) == 0, 30, 0.1, FETCHING)
    try:
        for address in standbys:
            system.lab.faults.cut_pod_peer(pod, address, "both", POSTGRES_PORT)
        system.cluster.sql(BULK, LOST_ROWS)
        harm.strike()

        def taken_over() -> bool:
            return system.cluster.primary().name != primary

        until(f"another primary than {primary}", taken_over, 60, 0.2, FETCHING)
    finally:
        system.lab.faults.mend_pod(pod)
        before, done = received(system, primary), len(jobs(logs(system, primary), "rewind"))
        started = time.monotonic()
        harm.undo()

    def again() -> float | None:
        every = jobs(logs(system, primary), "rewind")
        return every[-1] if len(every) > done else None

    took = until(f"{primary}'s rewind", again, 600, 0.2, FETCHING)
    whole = system.wait_healthy() and time.monotonic() - started
    assert took is not None
    return {"s": took, "whole s": float(whole),
            "received MB": (received(system, primary) - before) / MB}  # fmt: skip


def rates(system: Pgha, writers: int, seconds: float) -> dict[str, Any]:
    """WAL as fast as so many connections write it: the rate, how far the standbys fall behind, and
    whether anybody took that for a fault."""
    primary = system.wait_healthy()
    system.cluster.sql("DROP TABLE IF EXISTS bulk")
    system.cluster.sql("CREATE TABLE bulk (n int, text text)")
    transitions = held(system)
    over = time.monotonic() + seconds
    failed: list[str] = []

    def write() -> None:
        try:
            with system.connect() as connection:
                while time.monotonic() < over:
                    connection.execute(BULK, (BULK_ROWS,))
        except psycopg.Error as error:
            failed.append(str(error))

    began, at = time.monotonic(), wal(system)
    threads = [threading.Thread(target=write, daemon=True) for _ in range(writers)]
    for thread in threads:
        thread.start()
    worst = 0.0
    while time.monotonic() < over:
        worst = max(worst, behind(system))
        threading.Event().wait(0.25)
    for thread in threads:
        thread.join(60)
    written, took = wal(system) - at, time.monotonic() - began
    ended = time.monotonic()
    until("the standbys to have all", lambda: behind(system) == 0, 600, 0.1, FETCHING)
    caught_up = time.monotonic() - ended
    system.cluster.sql("DROP TABLE bulk")
    return {
        "writers": writers, "WAL MB/s": written / took / MB, "behind MB": worst / MB,
        "caught up s": caught_up, "failed writers": len(failed),
        "changes of the holder": held(system) - transitions,
        "same primary": system.wait_healthy() == primary,
    }  # fmt: skip


def wal(system: Pgha) -> int:
    query = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
    return int(system.cluster.sql(query)[0][0])


def behind(system: Pgha) -> float:
    """Bytes that the slowest standby has not flushed."""
    query = (
        "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn)), 0) "
        "FROM pg_stat_replication WHERE application_name NOT LIKE 'pgha-%'"
    )
    return max(0.0, float(system.cluster.sql(query)[0][0]))


def held(system: Pgha) -> int:
    lease = system.kube.get(system.kube.path(system.namespace, LEASES, system.name)) or {}
    return int((lease.get("spec") or {}).get("leaseTransitions") or 0)


def new_pod(system: Pgha, name: str, before: str) -> bool:
    pod = system.pods().get(name)
    return pod is not None and pod.uid != before


def logs(system: Pgha, pod: str) -> str:
    answer = system.lab.kubectl("--namespace", system.namespace, "logs", pod, "-c",
                                system.container)  # fmt: skip
    return answer.stdout


def jobs(log: str, kind: str) -> list[float]:
    """Seconds of each job of that kind that the agent's log says was done."""
    found = []
    for line in log.splitlines():
        if '"job-done"' in line:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if said.get("kind") == kind:
                    found.append(float(said["seconds"]))
    return found


def job(log: str, kind: str) -> float | None:
    found = jobs(log, kind)
    return found[-1] if found else None


def received(system: Pgha, pod: str) -> float:
    """Bytes that came into the pod since it began."""
    process = container_of(system, pod).processes()[0]
    return received_bytes((PROC / str(process.pid) / "net" / "dev").read_text())


def received_bytes(text: str) -> float:
    """All interfaces but the loopback, of /proc/PID/net/dev (proc(5))."""
    counted = 0.0
    for line in text.splitlines():
        name, colon, figures = line.partition(":")
        if colon and name.strip() != "lo":
            counted += float(figures.split()[0])
    return counted


def measure(
    lab: Lab, kube: Kube, config: dict[str, Any], members: Sequence[int], sizes: Sequence[int],
    seconds: float, keep: Callable[[str, dict[str, Any]], None],
) -> None:
    """Everything, one after the other; `keep` is given a kind and the figures as they come."""
    for count in members:
        keep("replicas", replicas(lab, kube, config, count))
    room = 3.0 * max(sizes, default=0) + ROOM_MB
    with cluster(lab, kube, config, MEMBERS, room) as (system, _):
        for size in sizes:
            keep("database", database(system, size))
        for writers in WRITERS:
            keep("wal", rates(system, writers, seconds))


def lines(found: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A table of figures of one kind; a figure that one of them lacks is left empty."""
    head = list(dict.fromkeys(k for figures in found for k in figures))
    return head, [[shown(figures.get(k)) for k in head] for figures in found]


def shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def load(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Kind -> its figures in the order they were made."""
    found: dict[str, list[dict[str, Any]]] = {}
    for figures in read(results, "sizes.jsonl"):
        found.setdefault(figures.pop("kind"), []).append(figures)
    return found
