"""One simulated member: the real decision and the real keeper over a simulated server."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgha.ballot import Ballot
from pgha.facts import (
    Branch,
    Data,
    Facts,
    Peer,
    Request,
    Vote,
    Votes,
    Waiver,
)
from pgha.gather import judged
from pgha.keeper import Keeper
from pgha.lsn import LSN, Position
from pgha.peers.messages import (
    EarlyVoteRequest,
    PromiseAnswer,
    PromiseRequest,
    VoteAnswer,
    VoteRequest,
    parse,
    to_json,
)
from pgha.postgres.sql import Sql
from pgha.pulse import Pulse
from pgha.quorum import promisers
from pgha.record import Record
from pgha.rules import decide, suspect
from pgha.rules.table import Decision
from pgha.settings import Identity, Settings
from tests.simulation.cluster import Directory, Server, SimulatedLease, World
from tests.simulation.deeds import perform
from tests.simulation.gather import RUNS, facts_of

ENDLESS = 1 << 40  # bytes
LATE = 0.04  # of the decisions are performed late in the wider world


@dataclass
class Member:
    """A pod: its volume outlives its containers."""

    world: World
    name: str
    settings: Settings
    peers: dict[str, Member]
    declared: tuple[str, ...] = ()
    directory: Directory = field(default_factory=Directory)
    server: Server = field(default_factory=Server)
    uid: int = 0
    alive: bool = False
    paused: bool | str = False  # "all": the fencer as well
    leaving: bool = False
    restart_at: float = 0.0
    same_pod: bool = False
    marked: str = ""  # the UID in the owner mark, on the volume
    gone: frozenset[str] = frozenset()  # UIDs of pods of this name of which nothing is left
    fence_at: float | None = None
    end: Any = None
    seen: dict[str, tuple[float, Peer]] = field(default_factory=dict)
    votes: Votes = field(default_factory=Votes)
    early: Votes = field(default_factory=Votes)
    heard: tuple[int, float] = (0, 0.0)  # in which term, and when, the primary was heard last
    listened_at: float = 0.0
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)  # on the volume
    acting: threading.Lock = field(default_factory=threading.Lock)
    job: tuple[str, str | None, float] | None = None
    checkpointed: int = 0
    slots: int = 0
    rewindable: int = 0
    curious: tuple[float, float] = (0.0, -10.0)
    stopped_at: float = 0.0
    primary_at: float = float("-inf")
    flush_before: int = -1
    fresh_senders: dict[str, str] = field(default_factory=dict)
    barrier_of: tuple[str, int, float] | None = None
    missing_since: float | None = None
    request: Request | None = None
    free: int = ENDLESS  # bytes of the disk; commits go on without any, where PostgreSQL may end
    slow: bool = False  # it hears its primary and receives nothing
    waiver: Waiver | None = None  # no fault sets it: a person does
    role: str | None = None
    noted: str | None = None  # the newest record seen, on the volume
    remembered: tuple[int, int] = (0, 0)  # the record last seen, in memory
    fired: set[str] = field(default_factory=set)
    next_renewal: float = 0.0
    promote_at: float = 0.0
    begun: tuple[Decision, Facts, float] | None = None  # decided, and not yet done
    retired: bool = False  # scaled away: its volume stays, its pod does not come back
    keeper: Keeper = field(init=False)
    ballot: Ballot = field(init=False)
    pulse: Pulse = field(init=False)

    # -- containers -----------------------------------------------------------------------------

    def boot(self, new_pod: bool) -> None:
        """A new agent; nothing of the former one's memory is left."""
        if new_pod:
            self.uid += 1
            self.role = None
        w = self.world
        self.identity = Identity(self.name, f"uid-{self.uid}", w.token())
        self.keeper = Keeper(
            SimulatedLease(w, self.name), self.identity, self.settings.times,  # type: ignore[arg-type]
            allow=self._allow, may_renew=lambda: None, flushed=self._flushed, wake=lambda: None,
            promises=self._promises, clock=lambda: w.now,
        )
        self.keeper.recall(Record.parse(self.noted))
        self.ballot = Ballot(
            self, self, self.settings.times.lease_duration, lambda: None, lambda: w.now
        )
        if not self.directory.ready and not self.directory.dirty:
            self.ballot.fresh_directory()
        self.pulse = Pulse(  # only what it knows of an I/O error: it looks at nothing here
            Sql(Path("/nowhere"), "postgres"), is_primary=lambda: False, timeline=lambda: 0,
            directory_of=lambda name, since: None, wanted=lambda: (0, frozenset()),
            wake=lambda: None,
        )
        self.alive, self.paused, self.leaving = True, False, False
        self.server.stop()
        self.fence_at, self.end, self.seen, self.votes = None, None, {}, Votes()
        self.remembered = 0, 0
        self.early, self.heard, self.listened_at = Votes(), (0, 0.0), w.now
        self.begun = None
        self.job, self.checkpointed, self.slots, self.rewindable = None, 0, 0, 0
        self.curious, self.barrier_of, self.missing_since = (0.0, -10.0), None, None
        self.stopped_at, self.next_renewal = w.now, w.now
        self.primary_at = float("-inf")
        self.same_pod = not new_pod
        # A new pod on the node of the former one has the lock that is held at the same place.
        provable = self.same_pod or (w.wide and self.uid % 2 == 0)
        self.gone = frozenset({self.identity.uid, self.marked} if provable else ())
        self.marked = self.identity.uid
        if self.directory.ready and not self.directory.dirty:
            self.end = self.directory.end
        w.note(f"{self.name} boots as {self.identity.incarnation}")

    def die(self, restart_in: float) -> None:
        """The container ends at once, with everything in it."""
        self.alive = False
        self.interrupt()
        self.server.stop()
        self.restart_at = self.world.now + restart_in
        if self.job is not None and self.job[0] == "rewind":
            self.directory.dirty = True

    def interrupt(self) -> None:
        """A promotion that ends midway has written its history file, and nothing after it."""
        self.directory.newest = max(self.directory.newest, self.server.promoting)

    def wipe(self) -> None:
        """The volume is lost with everything on it."""
        self.directory, self.noted, self.notes, self.marked = Directory(), None, {}, ""

    def _allow(self, deadline: float | None) -> None:
        self.fence_at = deadline

    def _flushed(self) -> Any:
        return self.directory.end if self.server.run == "primary" else None

    def fencer(self) -> None:
        """Acts though the agent may not, but not while the whole container is frozen."""
        if self.fence_at is not None and self.world.now >= self.fence_at:
            if self.server.run != "stopped":
                self.world.note(f"{self.name} is fenced")
                self.stopped_at = self.world.now
            self.server.stop()

    # -- the loop -------------------------------------------------------------------------------

    def turn(self) -> None:
        if self.begun is not None:
            if self.world.now < self.begun[2]:
                return
            decision, facts, _ = self.begun
            self.begun = None
            self._act(decision, facts)
            return
        facts = facts_of(self)
        if facts.data.data is Data.READY and facts.record.stamp != self.remembered:
            self.remembered = facts.record.stamp
            self.remember(facts.record)
        if facts.nothing_to_fence:
            self.keeper.settled()
        decision = decide(facts)
        self.fired.add(decision.rule)
        if decision.actions:
            self.world.note(f"{self.name} {decision.rule} {decision.detail}")
        if self.world.wide and decision.actions and self.world.random.random() < LATE:
            # A slow disk between the facts and the deed: the world has gone on.
            self.begun = decision, facts, self.world.now + self.world.random.choice((0, 0.5, 2))
            return
        self._act(decision, facts)

    def _act(self, decision: Decision, facts: Facts) -> None:
        for action in decision.actions:
            if not perform(self, action, facts):
                return

    def renew(self) -> None:
        """The renewal thread's step, when it is due."""
        if self.world.now < self.next_renewal or self.keeper.tenure() is None or self.ill():
            return
        times = self.settings.times
        if self.keeper._put(None) is None:
            self.keeper.promising = False
            self.next_renewal = self.world.now + times.renew_every
        else:
            self.keeper._seek_promises()
            self.next_renewal = self.world.now + times.retry_period

    def watch(self) -> None:
        """The watch of the Lease delivers, unless it is down or slow; and what members told."""
        w = self.world
        if w.hears_api(self.name):
            self.keeper.observe(w.lease_as_of(w.now - w.lag.get(self.name, 0.0)))
        for notice in [x for x in w.notices if x[0] <= w.now and x[1] == self.name]:
            w.notices.remove(notice)
            self.keeper.told(*notice[2:])

    # -- facts ----------------------------------------------------------------------------------

    def record(self) -> Record:
        return self.keeper.view(self.certified_dead, self.gone).record

    def certified_dead(self, incarnation: str) -> bool:
        if not self.settings.synchronous or not self.world.hears_api(self.name):
            return False
        pod = self.peers.get(incarnation.split("/")[0])
        return pod is not None and pod.alive and pod.same_pod and (
            pod.identity.incarnation != incarnation
            and pod.identity.incarnation.split("/")[1] == incarnation.split("/")[1]
        )

    def listen(self) -> None:
        """Note that the primary was heard; an ear that slept knows nothing of that time."""
        s, now = self.server, self.world.now
        if self.receiving():
            self.heard = s.attached_term, now
        elif now - self.listened_at > 2.0:
            self.heard = self.heard[0], now
        self.listened_at = now

    def silent(self) -> float | None:
        term, at = self.heard
        return self.world.now - at if term and term == self.record().term else None

    def ill(self) -> str:
        return self.pulse.ill(0.0) or ""

    def free_bytes(self) -> int:
        return self.free

    def receiving(self) -> bool:
        source = self.peers.get(self.server.attached or "")
        return (
            self.server.run == "standby" and source is not None and source.alive
            and not source.paused and source.server.run == "primary"
            and self.world.linked(self.name, source.name)
            and source.directory.wal[: len(self.directory.wal)] == self.directory.wal
        )

    def standbys(self) -> list[Member]:
        return [m for m in self.peers.values() if m is not self and m.alive
                and m.server.attached == self.name and m.receiving()]

    def could_acknowledge(self) -> bool:
        """Do enough standbys follow this server, if all that are cut off came back?"""
        s = self.server
        names = (s.sync_names, s.active_names)
        following = [
            m for m in self.peers.values() if m is not self and m.server.attached == self.name
            and any(f'"{m.name}"' in n for n in names)
        ]
        return len(following) >= s.quorum

    # -- what others ask ------------------------------------------------------------------------

    def reachable(self, other: Member) -> bool:
        return other.alive and not other.paused and self.world.linked(self.name, other.name)

    def status(self) -> Peer:
        d = self.directory
        ready = d.ready and not d.dirty and self.job is None
        view = self.keeper.view(self.certified_dead, self.gone)
        return Peer(
            self.name, 0.0, self.identity.uid, d.id or None,
            Data.DIRTY if d.dirty else Data.READY if d.ready else Data.EMPTY,
            RUNS[self.server.run], 7 if d.ready else None, d.end if ready else None,
            ready and not self.ill(),
            view.record.term, self.rewindable, self.receiving(),
            self.noted, self.settings.hot, self.leaving, self.free_bytes(), self.silent(),
        )

    def vote(self, term: int, candidate: str) -> Vote:
        """By the real ballot; a member that acts at the moment is busy."""
        if self.begun is not None:
            return Vote(self.name, self.directory.id, False, None, Branch.UNKNOWN, True)
        request = VoteRequest(term, candidate.split("/")[0], candidate)
        answer = parse(VoteAnswer, self.ballot.vote(to_json(request)))
        asking = self.peers[request.candidate]
        asking.hear(answer.term_seen)
        position, d = None, self.directory
        if answer.granted and answer.lsn is not None:
            position = Position(answer.timeline, LSN(answer.lsn))
        found, left = judged(asking.record(), self.name, d.history, d.end)
        return Vote(
            self.name, answer.directory_id, answer.granted, position, found, not self.ill(),
            answer.why, left,
        )

    def early_vote(self, term: int, version: str, candidate: str) -> Vote:
        if self.begun is not None:
            return Vote(self.name, self.directory.id, False, None, Branch.UNKNOWN, True)
        request = EarlyVoteRequest(term, version, candidate)
        answer = parse(VoteAnswer, self.ballot.early_vote(to_json(request)))
        return Vote(
            self.name, answer.directory_id, answer.granted, None, Branch.UNKNOWN, True, answer.why
        )

    def promise(self, holder: str, term: int, seconds: float, deleted: bool) -> bool:
        if self.begun is not None:
            return False
        request = PromiseRequest(holder, term, seconds, deleted)
        answer = parse(PromiseAnswer, self.ballot.promise(to_json(request)))
        self.peers[holder.split("/")[0]].hear(answer.term_seen)
        return answer.promised

    # What the ballot asks of its member.

    def holds(self) -> bool:
        return self.keeper.tenure() is not None

    def hear(self, term: int) -> None:
        self.keeper.hear(term)

    def lease(self) -> tuple[str | None, int]:
        view = self.keeper.view(self.certified_dead, self.gone)
        return view.holder, view.record.term

    def last_holder(self) -> tuple[str | None, int]:
        return self.keeper.last_holder()

    def version(self) -> str:
        return self.keeper.view(self.certified_dead, self.gone).version

    def objection(self) -> str | None:
        return suspect.objection(facts_of(self))

    def detach_and_read(self, timeout: float) -> tuple[Position | None, str]:
        d = self.directory
        if self.server.run == "primary" or self.server.promoting:
            return None, "it is a primary, or becomes one"
        if self.job is not None or not d.ready or d.dirty:
            return None, "it cannot"
        self.server.attached = None
        self.end = d.end
        return d.end, ""

    def describe(self) -> Mapping[str, Any]:
        return {"name": self.name, "directory_id": self.directory.id or None}

    def read_note(self, name: str) -> dict[str, Any] | None:
        return self.notes.get(name)

    def write_note(self, name: str, note: dict[str, Any]) -> None:
        self.notes[name] = note

    def _promises(self, records: Sequence[Record], deleted: bool) -> float | None:
        needs = [promisers(record, self.name) for record in records]
        if any(needed <= 0 for _, needed in needs):
            return None
        seconds = self.settings.times.lease_duration
        given = {
            n: self.peers[n].directory.id for n in sorted({n for v, _ in needs for n in v})
            if n in self.peers and self.reachable(self.peers[n])
            and self.peers[n].promise(self.identity.incarnation, records[0].term, seconds, deleted)
        }
        enough = all(
            sum(given.get(n) == d for n, d in v.items()) >= needed for v, needed in needs
        )
        return self.world.now if enough else None

    def remember(self, record: Record) -> None:
        """As member.Member.remember does."""
        if record.init == "initialized" and self.directory.ready and record.outdates(self.noted):
            self.noted = record.dump()
