"""pgbench with the agent and without it: the same image, the same settings, the same storage class.

One member each, so that replication, which is PostgreSQL's own cost, is on neither side. Rounds
take turns, so that the machine's mood hits both alike; while one is measured the other is idle.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.systems import SERVICE, Pgha, drop_leftovers
from bench.verdict import percentile
from lab.cluster import Lab
from lab.images import versions
from tests.support.kube import Kube
from tests.support.waiting import until

BARE = "bare"
DATA = "/data/pgdata"
SCALE, CLIENTS = 10, 4
# What the agent sets of its own paths, logs and roles is no part of how fast a server is.
NOT_COPIED = re.compile(
    r"(_file|_directory|_directories|_command|_conninfo|_slot_name|_names?|_addresses)$|^log_|^ssl"
)


@dataclass(frozen=True)
class Round:
    tps: float
    latency: float  # milliseconds, the mean


def pgbench_round(text: str) -> Round:
    """What pgbench prints at its end."""
    tps = re.search(r"^tps = ([\d.]+)", text, re.M)
    latency = re.search(r"^latency average = ([\d.]+) ms", text, re.M)
    if tps is None or latency is None:
        raise ValueError(f"pgbench printed no figures: {text[-500:]!r}")
    return Round(float(tps[1]), float(latency[1]))


def compared(with_agent: list[Round], bare: list[Round]) -> dict[str, Any]:
    """Medians of both and what the agent costs in per cent; the spread says what that is worth."""
    figures: dict[str, Any] = {"rounds of each": len(bare)}
    medians = {}
    for name, rounds in (("agent", with_agent), (BARE, bare)):
        tps = [r.tps for r in rounds]
        medians[name] = percentile(tps, 0.5)
        figures[f"{name} tps"] = medians[name]
        figures[f"{name} tps spread %"] = 100 * (max(tps) - min(tps)) / medians[name]
        figures[f"{name} latency ms"] = percentile([r.latency for r in rounds], 0.5)
    figures["slower with the agent %"] = 100 * (1 - medians["agent"] / medians[BARE])
    return figures


def settings_of(system: Pgha) -> dict[str, str]:
    """What the agent's server runs with and a bare one would not."""
    query = (
        "SELECT name, current_setting(name) FROM pg_settings WHERE source IN "
        "('configuration file', 'command line') AND context <> 'internal'"
    )
    with system.connect() as connection:
        return {
            name: value for name, value in connection.execute(query)
            if not NOT_COPIED.search(name)
        }  # fmt: skip


def start_bare(system: Pgha, settings: dict[str, str]) -> None:
    """A pod of the same image that runs `postgres` alone, beside the other's."""
    kube, namespace = system.kube, system.namespace
    options = " ".join(f"-c {name}='{value}'" for name, value in sorted(settings.items()))
    script = (
        f"initdb -D {DATA} -U bench -A trust --data-checksums >/dev/null && "
        f"exec postgres -D {DATA} -c unix_socket_directories=/tmp {options}"
    )
    claim = {
        "metadata": {"name": BARE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    container = {
        "name": "postgres",
        "image": f"docker.io/library/postgres:{versions()['17']}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True, "runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": BARE}}
    kube.create(kube.path(namespace, "persistentvolumeclaims"), claim)
    kube.create(
        kube.path(namespace, "pods"),
        {"metadata": {"name": BARE}, "spec": {
            "containers": [container], "volumes": [volume], "securityContext": {"fsGroup": 999},
            "terminationGracePeriodSeconds": 5}},
    )  # fmt: skip
    until(
        "the bare server to answer",
        lambda: _bare(system, "psql", "-Atc", "SELECT 1").returncode == 0, 60, 0.5,
    )  # fmt: skip


def _bare(system: Pgha, *command: str) -> subprocess.CompletedProcess[str]:
    environment = ("env", "PGUSER=bench", "PGHOST=127.0.0.1", "PGDATABASE=postgres")
    return system.lab.kubectl(
        "--namespace", system.namespace, "exec", BARE, "--", *environment, *command
    )


def _with_agent(system: Pgha, *command: str) -> subprocess.CompletedProcess[str]:
    pairs = [pair.split("=", 1) for pair in system.ways()[SERVICE][0].replace("'", "").split()]
    names = {"password": "PGPASSWORD", "user": "PGUSER", "dbname": "PGDATABASE"}
    login = [f"{names[key]}={value}" for key, value in pairs if key in names]
    return system.lab.kubectl(
        "--namespace", system.namespace, "exec", f"{system.name}-0", "-c", "postgres", "--",
        "env", *login, "PGHOST=127.0.0.1", "PGSSLMODE=disable", *command,
    )  # fmt: skip


def measure(lab: Lab, kube: Kube, rounds: int, seconds: float) -> dict[str, Any]:
    """Rounds that take turns; everything it makes is removed again."""
    drop_leftovers(kube)
    system = Pgha(lab, kube, "single", {"replicas": 1})
    try:
        system.up()
        until("the single member to be written to", lambda: settings_of(system), 90, 0.5,
              passing=(Exception,))  # fmt: skip
        settings = settings_of(system)
        start_bare(system, settings)
        found: dict[str, list[Round]] = {"agent": [], BARE: []}
        sides = {"agent": _with_agent, BARE: _bare}
        for run in sides.values():
            made = run(system, "pgbench", "-i", "-q", "-s", str(SCALE))
            assert made.returncode == 0, f"pgbench -i: {made.stderr[-500:]}"
        for number in range(rounds):
            # Who is first changes: the second of a pair meets the checkpoint of the first.
            for name in sorted(sides, reverse=bool(number % 2)):
                done = sides[name](
                    system, "pgbench", "-c", str(CLIENTS), "-T", str(int(seconds)),
                )  # fmt: skip
                assert done.returncode == 0, f"pgbench: {done.stderr[-500:]}"
                found[name].append(pgbench_round(done.stdout))
        load = float(Path("/proc/loadavg").read_text().split()[0])
        return {"settings": len(settings), "load average": load,
                **compared(found["agent"], found[BARE])}  # fmt: skip
    finally:
        system.down()
