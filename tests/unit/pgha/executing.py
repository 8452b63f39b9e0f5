"""The real executor, keeper and jobs over the simulated Lease."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pgha import actions as a
from pgha.executor import Executor
from pgha.facts import Facts
from pgha.jobs import Jobs, Kind
from pgha.keeper import Keeper
from pgha.record import Record
from pgha.settings import Identity, Settings, Times
from tests.simulation.cluster import SimulatedLease, World

TIMES = Times(15, 10, 2)
SETTINGS = Settings("a", "n", "app", "15", times=TIMES)
KINDS: tuple[Kind, ...] = ("rewind", "clone", "initdb")
WITHIN = 30.0  # seconds for a thread to begin


class Ground:
    """The real executor, keeper and jobs. The fencer is the deadline that it was told last, and
    each job notes the one that it began under."""

    def __init__(self) -> None:
        self.world = World(1)
        self.world.random.random = lambda: 1.0  # type: ignore[method-assign] # no answer is lost
        self.deadline: float | None = None
        self.began: list[float | None] = []
        self.done = threading.Event()
        self.keeper = Keeper(
            SimulatedLease(self.world, "a-0"), Identity("a-0", "u", "s"),  # type: ignore[arg-type]
            TIMES, allow=self._allow, may_renew=lambda: None, flushed=lambda: None,
            wake=lambda: None, promises=lambda *asked: None, clock=lambda: self.world.now,
        )
        self.keeper.observe(self.world.lease)
        unused: Any = None
        self.executor = Executor(
            settings=SETTINGS, identity=Identity("a-0", "u", "s"), member=unused, server=unused,
            conf=unused, sql=unused, keeper=self.keeper, ballot=unused, book=unused, poll=unused,
            early=unused,
            jobs=Jobs({kind: self._work for kind in KINDS}, self.done.set, lambda *_, **__: None),
            pulse=unused, errands=unused, password=unused, log=unused, apply_roles=unused,
            end=unused,
        )

    def _allow(self, deadline: float | None) -> None:
        self.deadline = deadline

    def _work(self, source: str | None, cancelled: Callable[[], bool]) -> None:
        self.began.append(self.deadline)

    def acquire(self) -> None:
        judged = self.keeper.version
        assert self.keeper.acquire(Record(term=1), judged) is None
        assert self.deadline is not None

    def start(self, kind: Kind) -> None:
        facts = Facts(now=self.world.now, me="a-0", incarnation="a-0/u/s", settings=SETTINGS)
        self.executor.perform(a.StartJob(kind, "a-1"), facts)
        assert self.done.wait(WITHIN)
