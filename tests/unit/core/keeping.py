"""A keeper with what it holds on to, in a world of its own."""

from __future__ import annotations

from collections.abc import Sequence

from pgha.facts import Claim
from pgha.keeper import Keeper
from pgha.lsn import Position
from pgha.record import Record
from pgha.settings import Identity, Times
from tests.simulation.cluster import SimulatedLease, World

TIMES = Times(15, 10, 2)


class Ground:
    def __init__(
        self, member: str = "a-0", world: World | None = None, uid: str = "uid"
    ) -> None:
        self.world = world or World(1)
        self.allowed: list[float | None] = []
        self.refuse: str | None = None
        self.promised: float | None = None
        self.flushed: Position | None = None
        self.promised_by: list[Record] = []
        self.asked_deleted, self.while_asked = False, 0.0
        self.keeper = Keeper(
            SimulatedLease(self.world, member), Identity(member, uid, "start"),  # type: ignore[arg-type]
            TIMES, allow=self.allowed.append, may_renew=lambda: self.refuse,
            flushed=lambda: self.flushed, wake=lambda: None, promises=self.promises,
            clock=lambda: self.world.now,
        )
        self.keeper.observe(self.world.lease)

    def promises(self, records: Sequence[Record], deleted: bool) -> float | None:
        self.promised_by, self.asked_deleted = list(records), deleted
        self.pass_(self.while_asked)
        return self.promised

    def pass_(self, seconds: float) -> None:
        self.world.now += seconds

    def delete(self) -> None:
        """By hand, as its watch shows at once."""
        self.world.lease = None
        self.keeper.observe(None)

    def acquire(self, term: int) -> str | None:
        """As a decision does that was made from the Lease as it is known now."""
        judged = self.keeper.version
        return self.keeper.acquire(Record(term=term), judged)

    def view(self, dead: str = "", gone: frozenset[str] = frozenset()) -> Claim:
        return self.keeper.view(lambda incarnation: incarnation == dead, gone).claim
