"""The simulated ground: time, the Lease, the network, and PostgreSQL as a list of WAL records.

What it models: compare-and-swap with lost answers and outages; WAL that is prefix-copied from an
attached primary; crash, clean stop, promotion, rewind and clone; synchronous commit by the
setting that is active, a step after it was set, and by the checkpointer's flag, which begins any
time after there is somebody to wait for. What it does not: partial records, the page
cache, a reload that some walsenders see later than others (that is `pulse`'s and PostgreSQL's
own matter, tested in tests/integration/postgres).
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace

from pgha.kube.errors import ApiUnreachable, Conflict, NotFound
from pgha.kube.leases import RawLease
from pgha.lsn import LSN, History, Position, Switch
from pgha.quorum import quorum_of
from pgha.record import Record

RECORD_BYTES = 64
OTHERS = 100  # versions between two of the Lease's: those of all other objects


@dataclass
class World:
    """Shared by all members of one schedule."""

    seed: int
    now: float = 1000.0
    random: random.Random = field(default_factory=random.Random)
    lease: RawLease | None = None
    api_down: bool = False
    versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1, OTHERS))
    cut: set[str] = field(default_factory=set)
    checkpoints: random.Random = field(init=False)
    creations: random.Random = field(init=False)
    wide: bool = False  # decisions that are late, links cut one by one, watches that lag
    api_cut: set[str] = field(default_factory=set)  # reach the members, but not the API
    blocked: set[frozenset[str]] = field(default_factory=set)  # pairs that do not reach each other
    lag: dict[str, float] = field(default_factory=dict)  # seconds that a member's watch is late
    late: list[tuple[float, RawLease]] = field(default_factory=list)  # writes still on their way
    notices: list[tuple[float, str, str, Record]] = field(default_factory=list)  # when, to whom
    versions_seen: list[tuple[float, RawLease | None]] = field(default_factory=list)
    early: set[int] = field(default_factory=set)  # terms in which a held lease was taken
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.checkpoints = random.Random(f"checkpoints {self.seed}")
        self.creations = random.Random(f"creations {self.seed}")
        self.lease = RawLease(resource_version=str(next(self.versions)), uid="lease-0")

    def note(self, text: str) -> None:
        self.log.append(f"{self.now - 1000:8.2f} {text}")

    def linked(self, a: str, b: str) -> bool:
        return a == b or not ({a, b} & self.cut or frozenset((a, b)) in self.blocked)

    def hears_api(self, member: str) -> bool:
        return not (self.api_down or member in self.cut or member in self.api_cut)

    def remember(self) -> None:
        """Note the Lease as it is now, for watches that are late."""
        seen = self.versions_seen
        if not seen or seen[-1][1] is not self.lease:
            seen.append((self.now, self.lease))

    def land_late_writes(self) -> None:
        """Writes whose senders have given up waiting reach the API server after all."""
        for due, wanted in list(self.late):
            if due > self.now or self.api_down:
                continue
            self.late.remove((due, wanted))
            there = self.lease
            if there is None:
                if not wanted.resource_version:
                    self.lease = self.made(wanted)
                    self.note(f"a late creation landed: {wanted.holder}")
            elif (there.uid, there.resource_version) == (wanted.uid, wanted.resource_version):
                self.lease = replace(wanted, resource_version=str(next(self.versions)))
                self.note(f"a late write landed: {wanted.holder}")

    def made(self, lease: RawLease) -> RawLease:
        version = str(next(self.versions))
        return replace(lease, resource_version=version, uid=f"lease-{version}")

    def delete_lease(self) -> None:
        """By hand. Twice, with the making of it again on its way since the first time, is not
        modelled: an older record would stand (docs/decisions/quorum-failover.md, point 7)."""
        self.lease = None
        self.late = [x for x in self.late if x[1].resource_version]

    def restore(self, lease: RawLease) -> None:
        """etcd goes back to a backup: the Lease, and the count of versions."""
        self.lease = lease
        after = int(lease.resource_version) + self.random.randint(1, OTHERS - 1)
        self.versions = itertools.count(after, OTHERS)
        self.late.clear()

    def lease_as_of(self, moment: float) -> RawLease | None:
        found = self.lease
        for since, lease in reversed(self.versions_seen):
            found = lease
            if since <= moment:
                break
        return found

    def token(self) -> str:
        return f"{self.random.getrandbits(40):010x}"


class SimulatedLease:
    """One member's way to the Lease; stands in for `pgha.kube.leases.LeaseApi`."""

    def __init__(self, world: World, member: str) -> None:
        self._world, self._member = world, member

    def _reach(self) -> None:
        if not self._world.hears_api(self._member):
            raise ApiUnreachable("no answer", ambiguous=True)

    def read(self, timeout: float) -> RawLease:
        self._reach()
        if self._world.lease is None:
            raise NotFound(404, "NotFound", "no such Lease")
        return self._world.lease

    def write(self, lease: RawLease, timeout: float) -> RawLease:
        w = self._world
        self._reach()
        if w.lease is None:
            raise NotFound(404, "NotFound", "no such Lease")
        if w.lease.resource_version != lease.resource_version or w.lease.uid != lease.uid:
            raise Conflict(409, "Conflict", "it changed")
        if w.wide and w.random.random() < 0.02:
            w.late.append((w.now + w.random.uniform(0.0, 8.0), lease))
            raise ApiUnreachable("no answer in time", ambiguous=True)
        return self._landed(replace(lease, resource_version=str(next(w.versions))))

    def create(self, lease: RawLease, timeout: float) -> RawLease:
        w = self._world
        self._reach()
        if w.lease is not None:
            raise Conflict(409, "AlreadyExists", "it is there")
        if w.wide and w.creations.random() < 0.1:
            delay = w.creations.uniform(0.0, 8.0)
            w.late.append((w.now + delay, replace(lease, resource_version="", uid="")))
            raise ApiUnreachable("no answer in time", ambiguous=True)
        return self._landed(w.made(lease))

    def _landed(self, lease: RawLease) -> RawLease:
        self._world.lease = lease
        if self._world.random.random() < 0.03:
            raise ApiUnreachable("the answer was lost after the write had landed", ambiguous=True)
        return lease


@dataclass
class Directory:
    """A data directory: WAL records are (timeline, transaction)."""

    wal: list[tuple[int, int]] = field(default_factory=list)
    timeline: int = 1
    history: History = field(default_factory=History)
    id: str = ""
    ready: bool = False
    dirty: bool = False
    clean: bool = False
    newest: int = 1  # the highest number that a history file has

    @property
    def end(self) -> Position:
        return Position(self.timeline, LSN(len(self.wal) * RECORD_BYTES))

    def promote(self, number: int) -> None:
        """PostgreSQL takes a number that no history file has."""
        self.history = History((*self.history, Switch(self.timeline, self.end.lsn)))
        self.timeline, self.clean = max(number, self.newest + 1), False
        self.newest = self.timeline

    def holds(self, transactions: set[int]) -> set[int]:
        """Those of `transactions` that are missing here."""
        return transactions - {t for _, t in self.wal}

    def receive(self, source: Directory, most: int) -> bool:
        """Stream from `source`; False where the own WAL is no prefix of its."""
        own = len(self.wal)
        if source.wal[:own] != self.wal:
            return False
        self.wal.extend(source.wal[own : own + most])
        if len(self.wal) >= (source.history[-1].at // RECORD_BYTES if source.history else 0):
            self.timeline, self.history = source.timeline, source.history
        self.newest = max(self.newest, source.timeline)
        return True

    def copy_of(self, source: Directory, token: str) -> None:
        self.wal, self.timeline, self.history = list(source.wal), source.timeline, source.history
        self.id, self.ready, self.dirty, self.clean = token, True, False, False
        self.newest = source.newest


@dataclass
class Server:
    """A PostgreSQL process over a directory."""

    run: str = "stopped"  # stopped, standby, primary
    attached: str | None = None
    attached_term: int = 0
    attached_at: float = 0.0
    sync_names: str = ""
    active_names: str = ""
    waits: bool = False  # the flag in shared memory without which no backend waits
    waits_at: float = 0.0  # when the checkpointer sets it
    waited: bool = False  # since the start, without a break
    promoting: int = 0
    unacknowledged: list[tuple[int, int]] = field(default_factory=list)  # (position, transaction)

    def stop(self) -> None:
        self.run, self.attached, self.promoting = "stopped", None, 0
        self.sync_names = self.active_names = ""
        self.waits = self.waited = False
        self.unacknowledged = []

    def start(self, names: str) -> None:
        self.run, self.attached = "standby", None
        self.sync_names = self.active_names = names
        self.waits = self.waited = bool(names)

    def tell(self, names: str, waits_at: float) -> None:
        """What lets commits go is taken for done at once, what makes them wait is late."""
        if not self.sync_names:
            self.waits_at = waits_at
        self.sync_names = names
        if not names:
            self.waits = self.waited = False

    def reload(self, now: float) -> None:
        self.active_names = self.sync_names
        self.waits = self.waits or bool(self.sync_names) and now >= self.waits_at

    @property
    def quorum(self) -> int:
        """W that PostgreSQL may be waiting for at this moment: the weaker of old and new."""
        if not self.waits:
            return 0
        return min(quorum_of(self.sync_names), quorum_of(self.active_names))

