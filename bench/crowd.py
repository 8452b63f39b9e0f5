"""`python -m bench.crowd`: the agents of many clusters in one process, PostgreSQL simulated.

The agent is the product's own: its loop, rules, executor, keeper, watches and errands, against
the real API server. Only what touches PostgreSQL, its processes, and other members' ports is
replaced (bench/simulated.py), by name, in the module that builds an agent.

Takes one line of JSON on stdin (Orders), then one command a line, and answers each with a line:
`look`, `strike SECONDS` (every primary's PostgreSQL dies once, spread over that time), `end`. It
ends when stdin ends, and so with whoever started it. Creates and deletes no object itself.
"""

from __future__ import annotations

import json
import os
import random
import resource
import secrets
import shutil
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any
from unittest.mock import patch

from bench.simulated import (
    Ground,
    Place,
    SimulatedCertificate,
    SimulatedCopies,
    SimulatedDirectory,
    SimulatedGuard,
    SimulatedPeers,
    SimulatedProbes,
    SimulatedServer,
    SimulatedSql,
)
from pgha import agent as product
from pgha import arrival
from pgha.agent import Agent
from pgha.facts import Run
from pgha.kube.client import Api
from pgha.owner import Ownership
from pgha.postgres.lock import DirectoryLock
from pgha.settings import Identity, Settings

LOOK = 0.02  # seconds between looks at a cluster that was struck: the resolution of its outage
STACK = 256 * 1024  # bytes of a thread's stack: a member has about eight threads


@dataclass(frozen=True)
class Orders:
    """What one process is to run. `clusters` are settings.json of each, with its token."""

    url: str
    ca: str
    clusters: list[dict[str, Any]]
    tokens: list[str]
    members: int
    uids: list[list[str]]  # of the pods, by cluster and ordinal
    folder: str  # for the members' notes; removed at the end


@dataclass
class Cluster:
    """The members of one cluster and what was seen of the last strike."""

    settings: Settings
    agents: list[Agent]
    places: list[Place]
    term: int = 0
    struck: float = 0.0
    outage: float | None = None

    def primary(self) -> int | None:
        """The ordinal of the primary that is in office, or None."""
        for number, agent in enumerate(self.agents):
            last = agent.last()
            if last is not None and last[0].run.run is Run.PRIMARY and last[0].holds:
                if last[0].promoted:
                    return number
        return None

    def whole(self) -> bool:
        """One primary in office, everybody else streaming from it and a voter."""
        number = self.primary()
        if number is None:
            return False
        facts = self.agents[number].last()[0]  # type: ignore[index]
        streaming = sum(s.streaming for s in facts.replication.senders)
        return streaming == len(self.agents) - 1 and len(facts.record.voters) == len(self.agents)

    def strike(self) -> None:
        """The primary's postmaster dies; its agent hears of it as by SIGCHLD."""
        number = self.primary()
        if number is None:
            return
        facts = self.agents[number].last()[0]  # type: ignore[index]
        self.term, self.struck, self.outage = facts.record.term, time.monotonic(), None
        self.places[number].crash()
        self.agents[number].wake()

    def watch(self) -> None:
        """Whether there is a primary of a later term."""
        number = self.primary()
        if self.struck and self.outage is None and number is not None:
            facts = self.agents[number].last()[0]  # type: ignore[index]
            if facts.record.term > self.term:
                self.outage = time.monotonic() - self.struck


@dataclass
class Crowd:
    """All clusters of this process."""

    folder: Path
    clusters: list[Cluster] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def make(self, orders: Orders) -> None:
        context = ssl.create_default_context(cafile=orders.ca)
        for given, token, uids in zip(orders.clusters, orders.tokens, orders.uids, strict=True):
            settings = Settings.parse(given)
            cluster, ground = Cluster(settings, [], []), Ground()
            for number in range(orders.members):
                name = settings.member(number)
                place = Place(ground, name, settings.host(name))
                api = Api(
                    orders.url, lambda t=token: t, None,  # type: ignore[misc]
                    settings.namespace, context=context,
                )  # fmt: skip
                cluster.places.append(place)
                cluster.agents.append(self._agent(settings, place, api, uids[number]))
            self.clusters.append(cluster)

    def _agent(self, settings: Settings, place: Place, api: Api, uid: str) -> Agent:
        folder = self.folder / settings.namespace / place.name
        folder.mkdir(parents=True)
        directory = SimulatedDirectory(place, folder)
        instead: dict[str, Any] = {
            "Server": lambda *_: SimulatedServer(place),
            "Sql": lambda *_: SimulatedSql(place),
            "Guard": lambda **_: SimulatedGuard(),
            "Probes": lambda *_: SimulatedProbes(),
            "ServerCertificate": lambda *_: SimulatedCertificate(folder / "server.pem"),
            "PeerClient": lambda *_: SimulatedPeers(place.ground, place.host, {}),
            "PeerServer": lambda address, port, tls, handlers: SimulatedPeers(
                place.ground, place.host, handlers
            ),
            "copies": SimpleNamespace(
                Copies=lambda *_: SimulatedCopies(settings, place, directory)
            ),
        }
        identity = Identity(place.name, uid, secrets.token_hex(6))
        patience = settings.times.lease_duration
        lock = DirectoryLock(directory.notes)
        owned = Ownership(directory, lock, identity, patience, alone=True)
        ground = arrival.Ground(directory, owned)
        with patch.multiple(product, **instead):
            return Agent(settings, identity, api, ground, folder)

    def start(self) -> None:
        for cluster in self.clusters:
            for agent in cluster.agents:
                threading.Thread(target=self._serve, args=(agent,), daemon=True).start()

    def _serve(self, agent: Agent) -> None:
        try:
            agent.serve()
        except Exception as error:  # said to who measures: an agent that ends is no result
            self.failures.append(f"{agent.identity.pod}: {error!r}")

    def look(self) -> dict[str, Any]:
        calls: Counter[str] = Counter()
        for cluster in self.clusters:
            for agent in cluster.agents:
                calls.update(agent.api.calls)
        used = resource.getrusage(resource.RUSAGE_SELF)
        whole = [c.whole() for c in self.clusters]
        unwhole = [self._why(c) for c, ok in zip(self.clusters, whole, strict=True) if not ok]
        return {
            "calls": dict(calls), "cpu": used.ru_utime + used.ru_stime, "whole": sum(whole),
            "unwhole": unwhole[:3], "threads": threading.active_count(),
            "rss": used.ru_maxrss * 1024, "failures": self.failures[:3],
        }  # fmt: skip

    def _why(self, cluster: Cluster) -> str:
        words = []
        for agent in cluster.agents:
            last = agent.last()
            words.append(f"{agent.identity.pod} {last[1].rule} {last[1].detail}" if last else "-")
        return "; ".join(words)[:500]

    def strike(self, seconds: float) -> dict[str, Any]:
        """Strikes all, one after the other in a random order, and waits for the new primaries."""
        began = time.monotonic()
        due = sorted((random.uniform(0.0, seconds), n) for n in range(len(self.clusters)))
        last = began + seconds + 60
        while time.monotonic() < last:
            while due and time.monotonic() - began >= due[0][0]:
                self.clusters[due.pop(0)[1]].strike()
            for cluster in self.clusters:
                cluster.watch()
            if not due and all(c.outage is not None for c in self.clusters if c.struck):
                break
            time.sleep(LOOK)
        return {"outages": [c.outage for c in self.clusters]}


def obey(crowd: Crowd, commands: IO[str], answers: IO[str]) -> None:
    for line in commands:
        command, *arguments = line.split()
        if command == "end":
            return
        given = crowd.look() if command == "look" else crowd.strike(float(arguments[0]))
        answers.write(json.dumps(given) + "\n")
        answers.flush()


def main() -> int:
    answers = os.fdopen(os.dup(1), "w")
    # The agents' own log is written as in a container, and read by nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.stack_size(STACK)
    orders = Orders(**json.loads(sys.stdin.readline()))
    try:
        crowd = Crowd(Path(orders.folder))
        crowd.make(orders)
        crowd.start()
        obey(crowd, sys.stdin, answers)
    finally:
        for _ in range(20):  # the agents still write their notes meanwhile
            shutil.rmtree(orders.folder, ignore_errors=True)
            if not os.path.exists(orders.folder):
                break
    os._exit(0)  # thousands of threads would be joined one by one


if __name__ == "__main__":
    sys.exit(main())
