"""One trial: a probe writes on one way in, a fault strikes at a random moment, all comes back.

Owns the order of a trial and its time limits; undoes the fault whatever happens. One way at a time:
50 fresh connections a second take most of a core (about 15 ms each, client and server), and two
probes beside each other keep a small machine so busy that what is measured is their own crowd.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.attempts import Attempt, load
from bench.faults import Fault
from bench.phases import phases
from bench.sights import Sight
from bench.systems import System
from bench.verdict import judge
from bench.watching import Watcher, read_logs
from lab.paths import REPOSITORY
from tests.support.waiting import until

QUIET = 2.0  # seconds of writing before the fault, at least
# The longest period of anybody's timer: the fault may strike at any point of it.
PERIOD = 10.0
OPEN = 0.5  # seconds without an acknowledgement that may become an outage
GIVE_UP = 150.0


class Probing:
    """A probe in a process of its own, and when it last had an acknowledgement."""

    def __init__(self, system: System, way: str, file: Path) -> None:
        self.file, self.table = file, f"bench_{way}"
        self.acks: list[float] = []
        self._process = subprocess.Popen(
            [*system.lab.exec_prefix(), sys.executable, "-m", "bench.probe", "--into", str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY,
            env={**system.lab.env(), "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        given = {"conninfos": system.ways()[way], "table": self.table}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given).encode() + b"\n")
        self._process.stdin.flush()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.acks.append(float(line))

    def gap_ended(self, since: float, seconds: float) -> float | None:
        """When the last gap of at least so many seconds that ended after `since` ended; None
        without one, or while one is open."""
        acks = [at for at in self.acks if at > since - 1]
        if not acks or time.monotonic() - acks[-1] > OPEN:
            return None
        ends = [
            after for before, after in zip(acks, acks[1:], strict=False)
            if after > since and after - before >= seconds
        ]  # fmt: skip
        return ends[-1] if ends else None

    def end(self) -> list[Attempt]:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._listener.join(5)
        return load(self.file)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Trial:
    """A trial as it is written into the results: a line of JSON."""

    system: str
    fault: str
    primary: str
    successor: str
    struck: float
    load: float  # load average of a minute at the beginning
    redundant: float  # seconds from the fault to full redundancy; from the undoing if it lasts
    ways: dict[str, dict[str, Any]]  # the verdict on the way in that was measured
    phases: dict[str, dict[str, float]]

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def run_trial(system: System, fault: Fault, way: str, folder: Path, stem: str) -> Trial:
    """Strike once; attempts and sights are kept as files of that stem."""
    primary = system.wait_healthy()
    one_minute = float(Path("/proc/loadavg").read_text().split()[0])
    with system.connect() as connection:
        connection.execute(f"DROP TABLE IF EXISTS bench_{way}")
        connection.execute(f"CREATE TABLE bench_{way} (n bigint)")
    harm = fault.prepare(system, primary)
    folder.mkdir(parents=True, exist_ok=True)
    watcher = Watcher(system)
    watcher.start()
    wall = time.time() - time.monotonic()
    probe = Probing(system, way, folder / f"{stem}-{way}.jsonl")
    try:
        until(f"the first writes by {way}", lambda: len(probe.acks) > 5, 30, 0.1)
        began = time.monotonic()
        _write_on(QUIET + random.uniform(0.0, PERIOD))
        struck = time.monotonic()
        try:
            harm.strike()
            _observe(fault, probe, struck)
            ended = time.monotonic()
        finally:
            harm.undo()
        undone = time.monotonic()
        attempts = probe.end()
    finally:
        probe.kill()
        watcher.stop()
    successor = system.wait_healthy()
    redundant = time.monotonic() - (struck if fault.at_most < 60 else undone)
    sights = sorted({*watcher.sights, *read_logs(system, began, wall)}, key=lambda s: s.at)
    keep_sights(folder / f"{stem}-sights.jsonl", sights)
    verdict = judge(attempts, struck, ended, rows_of(system, f"bench_{way}"))
    return Trial(
        system.name, fault.name, primary, successor, struck, one_minute, redundant,
        {way: asdict(verdict)}, {way: phases(sights, struck, verdict.outage_ended)},
    )  # fmt: skip


def _observe(fault: Fault, probe: Probing, struck: float) -> None:
    """Until the way in had its gap and its tail; or the time is over and it is in no gap; or the
    system is given up."""
    while (passed := time.monotonic() - struck) < GIVE_UP:
        end = probe.gap_ended(struck, fault.gap)
        tail = end is not None and time.monotonic() > end + fault.tail
        written = probe.gap_ended(0.0, 0.0) is not None
        if passed > fault.at_least and tail or passed > fault.at_most and written:
            return
        _write_on(0.25)


def _write_on(seconds: float) -> None:
    """Let the probe write: the length of a fault is what is measured, not waited for."""
    threading.Event().wait(seconds)


def rows_of(system: System, table: str) -> list[int]:
    def read() -> list[int] | None:
        with system.connect() as connection:
            query: Any = f"SELECT n FROM {table}"
            return [n for (n,) in connection.execute(query)] or None

    return until(f"the rows of {table}", read, 30, 0.5, (psycopg.Error,)) or []


def keep_sights(file: Path, sights: list[Sight]) -> None:
    with file.open("w") as out:
        for sight in sights:
            out.write(json.dumps(asdict(sight)) + "\n")


def recycle(system: System) -> None:
    """Pods whose container was restarted are made anew, the primary's last: kubelet waits longer
    before each further restart, and that would be measured too."""
    primary = system.wait_healthy()
    stale = [p.name for p in system.pods().values() if p.restarts > 0]
    for name in sorted(stale, key=lambda name: name == primary):
        before = system.pods()[name].uid
        system.kube.delete(system.kube.path(system.namespace, "pods", name))
        until(f"a new pod {name}", lambda b=before, n=name: _new(system, n, b), 120, 0.3)  # type: ignore[misc]
        system.wait_healthy()


def _new(system: System, name: str, before: str) -> bool:
    pod = system.pods().get(name)
    return pod is not None and pod.uid != before
