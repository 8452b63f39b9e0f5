"""A pod comes to its volume, which may still be a former pod's of its name: it waits outside.

It is no member until the directory is its own. It answers nobody, since a vote or a promise would
be the other one's to keep, and it reads nothing before: what the other one still writes (votes,
promises, WAL, which copy it is) would be remembered here as it was. Owns what people see meanwhile.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from pgha import sigterm
from pgha.container import take_lock
from pgha.http.probes import Probes
from pgha.kube.client import Api
from pgha.kube.errands import Errands
from pgha.kube.pods import STATUS_ANNOTATION
from pgha.owner import Ownership
from pgha.postgres.directory import NOTES, Directory
from pgha.postgres.lock import DirectoryLock
from pgha.report import Report
from pgha.rules.safety import FOREIGN
from pgha.settings import Identity, Settings

LOOK = 0.25  # seconds between two looks at a directory that may be another's


@dataclass(frozen=True)
class Ground:
    """The data directory, and whose it is."""

    directory: Directory
    ownership: Ownership


def arrive(
    settings: Settings, identity: Identity, api: Api, bin_dir: Path, run_dir: Path, port: int
) -> Ground | None:
    """The ground, once it is this pod's; None if the pod is to end before that. `port`: of the
    probes, meanwhile."""
    pgdata = Path(os.environ["PGDATA"])
    alive, lock = take_lock(run_dir / "alive.lock"), DirectoryLock(pgdata.parent / NOTES)
    directory = Directory(pgdata, bin_dir, tuple(fd for fd in (alive, lock.fd) if fd is not None))
    patience = settings.times.lease_duration
    ownership = Ownership(directory, lock, identity, patience, alive is not None)
    if not ownership.foreign or _waited(settings, identity, api, ownership, port):
        return Ground(directory, ownership)
    return None


def _waited(
    settings: Settings, identity: Identity, api: Api, ownership: Ownership, port: int
) -> bool:
    errands = Errands(api, identity.pod, identity.uid, settings.name)
    report = Report(identity.pod)

    def tell(why: str) -> None:
        report.log("decision", rule=FOREIGN.id, why=FOREIGN.sentence, detail=why, actions=[])
        errands.annotate_self(STATUS_ANNOTATION, json.dumps(
            {"rule": FOREIGN.id, "why": FOREIGN.sentence, "detail": why, "run": "stopped"}
        ))

    probes = Probes(
        port, lambda: (False, f"{FOREIGN.id}: {FOREIGN.sentence}"), lambda: (True, "it waits"),
        CollectorRegistry(),
    ).start()
    try:
        return wait(ownership, tell, lambda: sigterm.came)
    finally:
        probes.stop()
        errands.stop(timeout=1.0)


def wait(
    ownership: Ownership, tell: Callable[[str], None], ended: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """True once the directory is this pod's, False once the pod is to end. `tell` gets each new
    reason to wait."""
    told = ""
    while ownership.foreign and not ended():
        if ownership.foreign != told:
            told = ownership.foreign
            tell(told)
        sleep(LOOK)
        ownership.check()
    return not ownership.foreign
