"""What the API shows and the members' logs say during a trial. Owns both readings, judges neither.

Objects as they were at the beginning are seen too, before the fault.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.sights import Sight
from bench.systems import System, Watched
from tests.support.kube import Kube, KubeError


@dataclass
class Watcher:
    """Watches of one system, each in a thread that ends with the process at the latest."""

    system: System
    sights: list[Sight] = field(default_factory=list)
    watched: list[Watched] | None = None  # None: what the system says
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        for watched in self.watched or self.system.watched():
            threading.Thread(target=self._watch, args=(watched,), daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _watch(self, watched: Watched) -> None:
        # A pool of its own: a watch holds its connection.
        kube = Kube(self.system.kube.kubeconfig)
        last: dict[str, str] = {}
        while not self._stop.is_set():
            with contextlib.suppress(KubeError):
                for event in kube.watch(watched.path, watched.query):
                    now = time.monotonic()
                    if self._stop.is_set():
                        return
                    if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                        break
                    name = event["object"]["metadata"]["name"]
                    gone = event["type"] == "DELETED"
                    shown = "gone" if gone else watched.shown(event["object"])
                    if last.get(name) != shown:
                        last[name] = shown
                        self.sights.append(Sight(now, watched.what, name, shown))


# What PostgreSQL itself says (log_line_prefix starts with %m), the same for every system.
SERVER_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (?:GMT|UTC) \[\d+\] LOG:  (.*)")
SERVER_TALK = {
    "received promote request": "promoting",
    "archive recovery complete": "promoted",
    "received fast shutdown request": "stopping",
    "received immediate shutdown request": "stopping",
    "database system is shut down": "stopped",
    "starting PostgreSQL": "starting",
    "database system is ready to accept connections": "writable",
}


def read_logs(system: System, since: float, wall: float) -> Iterator[Sight]:
    """The members' logs since a moment; `wall`: what to take off a wall clock to get ours."""
    for pod in system.pods():
        for flags in ([], ["--previous"]):
            answer = system.lab.kubectl(
                "--namespace", system.namespace, "logs", pod, "-c", system.container, *flags,
                f"--since={time.monotonic() - since + 1:.0f}s",
            )  # fmt: skip
            if answer.returncode == 0:
                for line in answer.stdout.splitlines():
                    sight = read_line(pod, line, wall)
                    if sight is not None and sight.at >= since:
                        yield sight


def read_line(pod: str, line: str, wall: float) -> Sight | None:
    """A line of PostgreSQL's log, or of the agent's (JSON), that tells of a step; else None."""
    found = SERVER_LINE.match(line)
    if found:
        for text, what in SERVER_TALK.items():
            if found[2].startswith(text):
                said_at = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
                return Sight(said_at.timestamp() - wall, f"server {what}", pod, "")
        return None
    if not line.startswith('{"at"'):
        return None
    try:
        said = json.loads(line)
        at = datetime.fromisoformat(said["at"]).timestamp() - wall
    except (ValueError, KeyError):
        return None
    actions = " ".join(said.get("actions") or ())
    shown = " ".join(str(said[k]) for k in ("rule", "detail", "why") if said.get(k))
    return Sight(at, f"agent {said['event']}", pod, f"{shown} [{actions}]" if actions else shown)
