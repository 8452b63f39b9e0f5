"""What a cluster costs while nothing happens and under load: memory, CPU, API writes, start-up.

Read from the kernel (/proc of the members' processes) and from watches of the namespace; asks
neither system about itself. The figures of a pod are the mean over the three members.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.faults import container_of
from bench.patroni import Patroni
from bench.systems import SERVICE, System, Watched
from bench.watching import Watcher
from lab.faults import command_line
from lab.processes import PROC, Process
from tests.support.kube import EVENTS, LEASES
from tests.support.waiting import until

TICKS = os.sysconf("SC_CLK_TCK")
FENCER = "fencer.py"
SCALE, CLIENTS = 5, 4  # of pgbench


@dataclass(frozen=True)
class Use:
    """Seconds of CPU since the start, with those of children that have ended; bytes of PSS."""

    cpu: float
    pss: int


def use_of(processes: Sequence[Process]) -> Use:
    cpu, pss = 0.0, 0
    for process in processes:
        with contextlib.suppress(OSError):
            folder = PROC / str(process.pid)
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            cpu += sum(int(field) for field in fields[11:15]) / TICKS
            rollup = (folder / "smaps_rollup").read_text().splitlines()
            pss += next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024
    return Use(cpu, pss)


def parts(system: System) -> dict[str, dict[str, list[Process]]]:
    """Pod -> what is not PostgreSQL in it: the agent's processes, the fencer's."""
    found: dict[str, dict[str, list[Process]]] = {}
    for pod in system.pods():
        every = container_of(system, pod).processes()
        titles = {process: command_line(process.pid) for process in every}
        found[pod] = {
            "agent": [p for p, title in titles.items() if system.agent in title],
            "fencer": [p for p, title in titles.items() if FENCER in title],
        }
    return found


def use_over(system: System, seconds: float) -> dict[str, float]:
    """Mean per pod: PSS in MB at the end, CPU in per cent of a core over that time."""
    processes = parts(system)
    before = {pod: {k: use_of(v) for k, v in p.items()} for pod, p in processes.items()}
    started = time.monotonic()
    threading.Event().wait(seconds)
    took = time.monotonic() - started
    figures: dict[str, float] = {}
    for part in ("agent", "fencer"):
        after = {pod: use_of(p[part]) for pod, p in processes.items()}
        if not any(p[part] for p in processes.values()):
            continue
        cpu = [after[pod].cpu - before[pod][part].cpu for pod in after]
        figures[f"{part} MB PSS"] = sum(u.pss for u in after.values()) / len(after) / 1e6
        figures[f"{part} % of a core"] = 100 * sum(cpu) / len(cpu) / took
    return figures


def writes_over(system: System, seconds: float) -> dict[str, float]:
    """Writes a minute by kind of object: changes of resourceVersion that a watch shows. A write
    that changes nothing makes none, so this is what etcd stores."""

    def version(found: dict[str, Any]) -> str:
        return str(found["metadata"]["resourceVersion"])

    kinds = ("pods", "endpoints", "configmaps", EVENTS, LEASES)
    watched = [Watched(kind, system.kube.path(system.namespace, kind), {}, version)
               for kind in kinds]  # fmt: skip
    watcher = Watcher(system, watched=watched)
    watcher.start()
    threading.Event().wait(2.0)  # what is there is shown first
    started = time.monotonic()
    threading.Event().wait(seconds)
    ended = time.monotonic()
    watcher.stop()
    counted = Counter(s.what.rpartition("/")[2] for s in watcher.sights if started < s.at <= ended)
    return {kind: count * 60 / (ended - started) for kind, count in sorted(counted.items())}


def start_up(system: System) -> float:
    """Seconds from a standby's new pod until it is Ready, with its data there."""
    primary = system.wait_healthy()
    name = sorted(set(system.pods()) - {primary})[0]
    before = system.pods()[name].uid
    system.kube.delete(system.kube.path(system.namespace, "pods", name))

    def new() -> bool:
        pod = system.pods().get(name)
        return pod is not None and pod.uid != before

    until(f"a new pod {name}", new, 90, 0.02)
    started = time.monotonic()
    until(f"{name} Ready", lambda: new() and system.pods()[name].ready, 90, 0.05)
    took = time.monotonic() - started
    system.wait_healthy()
    return took


def pgbench(system: System, pod: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pgbench inside a member's container, over TCP."""
    settings = dict(
        pair.split("=", 1) for pair in system.ways()[SERVICE][0].replace("'", "").split()
    )
    names = {"PGPASSWORD": "password", "PGUSER": "user", "PGDATABASE": "dbname"}
    environment = [f"{name}={settings[key]}" for name, key in names.items()]
    environment += ["PGHOST=127.0.0.1", "PGSSLMODE=disable"]
    return system.lab.kubectl(
        "--namespace", system.namespace, "exec", pod, "-c", system.container, "--",
        "env", *environment, "pgbench", *arguments,
    )  # fmt: skip


def under_load(system: System, seconds: float) -> dict[str, Any]:
    """The same while pgbench writes."""
    primary = system.wait_healthy()
    made = pgbench(system, primary, "-i", "-q", "-s", str(SCALE))
    assert made.returncode == 0, f"pgbench -i in {primary}: {made.stderr[-500:]}"
    answers: list[subprocess.CompletedProcess[str]] = []
    load = threading.Thread(
        target=lambda: answers.append(
            pgbench(system, primary, "-c", str(CLIENTS), "-T", str(int(seconds) + 5))
        )
    )
    load.start()
    figures: dict[str, Any] = {f"{k}, loaded": v for k, v in use_over(system, seconds).items()}
    load.join()
    tps = [line.split()[2] for line in answers[0].stdout.splitlines() if line.startswith("tps")]
    assert tps, f"pgbench in {primary}: {answers[0].stderr[-500:]}"
    figures["transactions a second meanwhile"] = float(tps[0])
    return figures


def image_size(system: System) -> float:
    """MB of the archive that is brought into the pod beside PostgreSQL's image."""
    root: Path = system.lab.layout.cache.root
    file = "bench/patroni.tar" if isinstance(system, Patroni) else "images/operator.tar"
    return (root / file).stat().st_size / 1e6


def measure(system: System, seconds: float) -> dict[str, Any]:
    """All figures of one system."""
    system.wait_healthy()
    threading.Event().wait(10.0)  # what follows a start is no part of the idle minute
    return {
        "load average": float(Path("/proc/loadavg").read_text().split()[0]),
        **use_over(system, seconds),
        "writes a minute": writes_over(system, seconds),
        **under_load(system, seconds),
        "image MB": image_size(system),
        "standby start-up s": start_up(system),
    }
