"""One random schedule: faults and clients, step by step. The verdict is the invariants'."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pgha.facts import Request
from pgha.quorum import quorum_of
from pgha.record import Record
from pgha.rules.room import PROMOTION, SEGMENT
from pgha.settings import Settings
from tests.simulation.cluster import World
from tests.simulation.deeds import work
from tests.simulation.gather import facts_of
from tests.simulation.invariants import Invariants
from tests.simulation.member import ENDLESS, Member

STEP = 0.25  # seconds
RECORD = "pgha.dev/record"
RESTORED = 60  # states of the Lease of which one may be restored
HEALED_WITHIN = 150.0  # seconds of simulated time after the last fault


class Broken(AssertionError):
    """An invariant does not hold; the text names it, the seed and the history."""


@dataclass
class Schedule:
    """`gentle`: only faults that leave every disk and every link whole (tests.md, I2).

    `fenced` False: whoever was primary goes on being one; only the quorum is left to protect.
    `wide`: more kinds of faults, and decisions that are performed late.
    `early`: with quorumFailover, so Synchronous, and with every link of the primary cut at times.
    `kinds`: only these faults, where a test looks for one thing.
    """

    seed: int
    fenced: bool = True
    wide: bool = False
    early: bool = False
    kinds: tuple[str, ...] = ()
    wiped: bool = False
    faults_for: float = 60.0
    world: World = field(init=False)
    members: dict[str, Member] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    invariants: Invariants = field(init=False)
    _next: int = 0

    def __post_init__(self) -> None:
        rng = random.Random(self.seed * 7919 + 1)
        self.rng = rng
        self.world = World(self.seed, wide=self.wide)
        self.invariants = Invariants(self)
        size = rng.choice((1, 2, 3, 3, 3, 3, 5))
        if self.early:
            size = max(size, 2)
        synchronous = rng.random() < 0.6 or self.early
        self.gentle = rng.random() < 0.4 and not self.kinds and not self.early
        self.settings = Settings(
            "c", "ns", "app", "15", hot=rng.random() < 0.5, synchronous=synchronous,
            strict=synchronous and size > 1 and rng.random() < 0.3,
            min_sync_replicas=rng.choice((1, 1, 2)) if size > 3 else 1,
            quorum_failover=self.early,
        )
        declared = tuple(f"c-{n}" for n in range(size))
        for name in declared:
            self.members[name] = Member(
                self.world, name, self.settings, self.members, declared
            )
        for member in self.members.values():
            member.boot(new_pod=True)

    @property
    def fired(self) -> frozenset[str]:
        """The rules that decided anywhere."""
        return frozenset().union(*(m.fired for m in self.members.values()))

    @property
    def primaries(self) -> list[Member]:
        return [m for m in self.members.values() if m.alive and m.server.run == "primary"]

    # -- running --------------------------------------------------------------------------------

    def run(self) -> int:
        """The number of commits that were acknowledged. Raises Broken."""
        try:
            self._until(self.world.now + 40.0, "the cluster comes up", False)
            end = self.world.now + self.faults_for
            while self.world.now < end:
                if self.rng.random() < 0.05:
                    self._strike()
                self._step()
            self._heal()
            healed = self.world.now + (HEALED_WITHIN if self.fenced else 20.0)
            self._until(healed, "liveness after healing", self.fenced)
        except AssertionError as e:
            tail = "\n".join(self.world.log[-60:])
            raise Broken(f"seed {self.seed}: {e}\n{tail}") from e
        return len(self.acknowledged)

    def _until(self, deadline: float, what: str, must: bool) -> None:
        calm = 0
        while self.world.now < deadline:
            self._step()
            calm = calm + 1 if self._settled() else 0
            if calm > 8:
                return
        if must:
            raise AssertionError(f"I6/I7: {what} took longer: {self._state()}")

    def _settled(self) -> bool:
        match self.primaries:
            case [only] if facts_of(only).promoted:
                return len(only.standbys()) == len(self.members) - 1
        return False

    def _state(self) -> str:
        return "; ".join(
            f"{m.name} {m.server.run} alive={m.alive} attached={m.server.attached} "
            f"end={m.directory.end} ready={m.directory.ready} dirty={m.directory.dirty}"
            for m in self.members.values()
        ) + f" {self.record()}"

    def record(self) -> Record:
        lease = self.world.lease
        return Record.parse(lease.annotations.get(RECORD)) if lease else Record()

    def _step(self) -> None:
        w = self.world
        w.now += STEP
        w.land_late_writes()
        w.remember()
        order = list(self.members.values())
        self.rng.shuffle(order)
        for m in order:  # the kernel's timer strikes before a thawed process does anything
            if m.alive and m.paused != "all":
                m.fencer()
        for m in order:
            if not m.alive:
                if w.now >= m.restart_at and not m.retired:
                    m.boot(new_pod=not m.same_pod)
                continue
            if m.paused:
                continue
            if self.rng.random() < 0.9:
                m.watch()
            m.renew()
            work(m)
            if m.alive:
                for _ in range(self.rng.choice((1, 1, 2, 4))):
                    if m.alive:
                        m.turn()
            self.invariants.check()
        self._replicate()
        self._write()
        self.invariants.check()

    # -- the database ---------------------------------------------------------------------------

    def _replicate(self) -> None:
        for m in self.members.values():
            fed = m.alive and not m.slow and m.paused != "all" and m.receiving()
            if fed and self.rng.random() < 0.9:
                source = m.peers[m.server.attached or ""]
                m.directory.receive(source.directory, self.rng.choice((1, 3, 50)))

    def _write(self) -> None:
        """Clients write wherever writes are taken, and note what was acknowledged."""
        for m in self.members.values():
            if not m.alive or m.paused == "all" or m.server.run != "primary":
                continue
            s, d = m.server, m.directory
            self._next += 1
            d.wal.append((d.timeline, self._next))
            s.unacknowledged.append((len(d.wal), self._next))
            needed = quorum_of(s.active_names) if s.waits else 0
            standbys = [x for x in m.standbys() if f'"{x.name}"' in s.active_names]
            waiting = []
            for position, transaction in s.unacknowledged:
                enough = sum(len(x.directory.wal) >= position for x in standbys) >= needed
                if enough:
                    self.invariants.acknowledge(m, transaction)
                else:
                    waiting.append((position, transaction))
            s.unacknowledged = waiting
            s.reload(self.world.now)

    # -- faults ---------------------------------------------------------------------------------

    def _strike(self) -> None:
        w, rng = self.world, self.rng
        m = rng.choice(list(self.members.values()))
        primaries = [x for x in self.members.values() if x.server.run == "primary"]
        if primaries and rng.random() < 0.6:
            m = primaries[0]
        gentle = ["postgres", "container", "delete", "switchover"]
        rough = ["freeze", "stop-agent", "cut", "api", "delete-lease", "delete-all", "forced",
                 "mend"]
        if w.wide:
            rough = [*rough, "api-cut", "block", "lag", "scale", "wipe"]
        if self.early:
            rough = [*rough, "cut", "members-cut", "members-cut"]
        kind = rng.choice(self.kinds or (gentle if self.gentle else gentle + rough + rough))
        if self.gentle and any(not x.alive or x.leaving for x in self.members.values()):
            return
        w.note(f"** {kind} {m.name}")
        if kind == "postgres" and m.alive:
            if m.server.run != "stopped":
                m.interrupt()
                m.server.stop()
                m.stopped_at, m.directory.clean = w.now, False
        elif kind == "container" and m.alive:
            m.die(rng.uniform(0.5, 3.0))
            m.same_pod = True
        elif kind == "forced" and m.alive:
            m.die(rng.uniform(1.0, 20.0))
            m.same_pod = False
        elif kind == "delete":
            m.leaving = True
        elif kind == "delete-all":
            for x in self.members.values():
                x.leaving = True
        elif kind == "switchover":
            request = Request(w.token(), None)
            for x in self.members.values():
                x.request = request
        elif kind in ("freeze", "stop-agent"):
            m.paused = "all" if kind == "freeze" else "agent"
        elif kind == "cut":
            w.cut.add(m.name)
        elif kind == "api-cut":
            w.api_cut.add(m.name)
        elif kind == "block":
            w.blocked.add(frozenset((m.name, rng.choice(list(self.members)))))
        elif kind == "members-cut":
            w.blocked |= {frozenset((m.name, n)) for n in self.members if n != m.name}
        elif kind == "scale":
            self._scale(rng.randint(1, len(self.members)))
        elif kind == "wipe":
            self._wipe(m)
        elif kind == "full":
            m.free = 0
        elif kind == "crowd":  # room for a promotion, or for a little more
            m.free = PROMOTION + rng.choice((0, SEGMENT // 2))
        elif kind == "slow":
            m.slow = True
        elif kind == "lag":
            w.lag[m.name] = rng.uniform(0.5, 6.0)
        elif kind == "api":
            w.api_down = True
        elif kind == "delete-lease" and not (  # the record and the volumes are not lost together
            self.wiped or any(x.retired for x in self.members.values())
        ):
            w.delete_lease()
        elif kind == "restore":
            self._restore()
        elif kind == "mend":
            self._heal()

    def _restore(self) -> None:
        """etcd goes back to a backup. What it was last is known to every member: what nobody who
        is left has seen is gone, and nothing is promised of it (docs/safety.md)."""
        w, newest = self.world, self.record().stamp
        past = [
            x for _, x in w.versions_seen[-RESTORED:] if x is not None
            and Record.parse(x.annotations.get(RECORD)).init == "initialized"
        ]
        if past and all(
            m.alive and m.keeper.record.stamp == newest for m in self.members.values()
        ):
            w.restore(self.rng.choice(past))
            self.invariants.restored = newest

    def _scale(self, size: int) -> None:
        """The StatefulSet's spec.replicas changes: the highest ordinals leave or come back."""
        declared = tuple(self.members)[:size]
        for name, m in self.members.items():
            m.declared, m.retired = declared, name not in declared
            if m.retired and m.alive:
                m.leaving = True

    def _wipe(self, m: Member) -> None:
        """One volume is lost in a history, and only when others are known to have everything."""
        record = self.record()
        safe = len(record.voters) > 1 and (
            not self.settings.synchronous or record.write_quorum > 0 and not record.degraded
        )
        whole = all(self.members[n].directory.id == d for n, d in record.voters)
        # Where nobody has followed the newest primary yet, its volume is the only one that fits.
        whole = whole and all(x.directory.timeline == record.timeline
                              for x in self.members.values() if x.name in record.voter_names)
        if self.wiped or not safe or not whole or self.world.lease is None:
            return
        self.wiped = True
        if m.alive:
            m.die(self.rng.uniform(1.0, 10.0))
            m.same_pod = False
        m.wipe()

    def _heal(self) -> None:
        if any(m.retired for m in self.members.values()):
            self._scale(len(self.members))
        for faults in (self.world.cut, self.world.api_cut, self.world.blocked, self.world.lag):
            faults.clear()
        self.world.api_down = False
        for m in self.members.values():
            m.paused, m.free, m.slow = False, ENDLESS, False
            if m.alive:
                m.fencer()
