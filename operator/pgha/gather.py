"""Gathers the facts of one decision. Reads memory, the process table and small files; no network.

The exact end of WAL is read here when PostgreSQL is stopped, since every decision about a stopped
directory rests on it; that read has a deadline, and the renewals run in a thread of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pgha import asked
from pgha.ballot import Ballot
from pgha.book import Book
from pgha.clock import boottime
from pgha.ear import Ear
from pgha.facts import (
    Branch,
    Data,
    DataView,
    Facts,
    LeaseView,
    PodFacts,
    Run,
    RunView,
)
from pgha.fencer.guard import Guard
from pgha.jobs import Jobs
from pgha.keeper import Keeper
from pgha.kube.errands import Errands
from pgha.kube.pods import PodView
from pgha.lsn import LSN, History, Position, branch, left_at
from pgha.member import Member
from pgha.postgres.server import Server, ServerState
from pgha.postgres.sql import Sql
from pgha.pulse import Pulse
from pgha.record import Record
from pgha.rules import room, suspect
from pgha.settings import Identity, Settings, pod_of
from pgha.votes import Poll

WAL_WITHIN = 30.0
LOOK_AGAIN = 5.0  # seconds after which a refused directory is looked at anew: it may be mended
GIVEN_UP = 3  # starts that failed, after which the rules let another member try
FENCER_WITHIN = 2.0  # seconds in which the fencer answers

_RUN = {
    ServerState.STOPPED: Run.STOPPED,
    ServerState.STARTING: Run.STARTING,
    ServerState.RECOVERING: Run.RECOVERING,
    ServerState.STANDBY: Run.STANDBY,
    ServerState.PRIMARY: Run.PRIMARY,
    ServerState.STOPPING: Run.STOPPING,
}


def branch_of(record: Record, name: str, history: History, end: Position) -> Branch:
    """The history of `name`'s directory against the recorded one.

    What goes on from the recorded one is a stray, as DIVERGED as any other, unless it is of the
    promotion that is intended and not known to have happened (amendment 8). It is not of a record
    that went back either: none does (sight.py), and who knows a newer one grants no vote.
    """
    if record.init != "initialized" or not record.timeline:
        return Branch.UNKNOWN
    found = Branch(branch(history, end.timeline, end.lsn, record.history, record.timeline))
    if found is not Branch.AHEAD:
        return found
    intent = record.open_intent
    own = intent and intent.number == end.timeline and pod_of(intent.promoter) == name
    return found if own else Branch.DIVERGED


def judged(
    record: Record, name: str, history: History, end: Position
) -> tuple[Branch, LSN | None]:
    """The branch that a vote is of, and where it left the recorded timeline if it is a stray."""
    found = branch_of(record, name, history, end)
    if found is not Branch.DIVERGED:
        return found, None
    return found, left_at(history, record.history, record.timeline)


@dataclass
class Gatherer:
    settings: Settings
    identity: Identity
    member: Member
    server: Server
    sql: Sql
    keeper: Keeper
    ballot: Ballot
    book: Book
    poll: Poll
    early: Poll
    ear: Ear
    jobs: Jobs
    pulse: Pulse
    guard: Guard
    errands: Errands
    pods: Callable[[], Mapping[str, PodView]]
    replicas: Callable[[], int | None]
    foreign_owner: Callable[[], str]
    leaving: Callable[[], bool]
    gone: Callable[[], frozenset[str]]
    log: Callable[..., None]
    _was: Run = field(default=Run.STOPPED)

    def __post_init__(self) -> None:
        self.keeper.recall(self.member.kept())  # before anybody is told of the Lease

    def declared(self) -> tuple[str, ...]:
        count = self.replicas()
        return tuple(self.settings.member(i) for i in range(count)) if count else ()

    def lease(self) -> LeaseView:
        return self.keeper.view(self._certified_dead, self.gone())

    def _certified_dead(self, incarnation: str) -> bool:
        """Kubelet's word for that very container (amendments 12 and 16: Synchronous mode only)."""
        if not self.settings.synchronous:
            return False
        return any(incarnation in pod.dead_incarnations for pod in self.pods().values())

    def facts(self) -> Facts:
        lease = self.lease()
        tenure = self.keeper.tenure()
        job = self.jobs.view()
        if self.jobs.ended and not job.running:
            self.jobs.ended = False
            self.member.look()
        run = self._run(job.running, lease.record.term)
        data = self._data(run, job.running, lease.record)
        early, still = self.early.view(), self.ballot.still(lease.version)
        mine = self.identity.pod, data.directory_id
        lease = suspect.claim(lease, self.settings, mine, still, early)
        pods = self.pods()
        ill = self.pulse.ill(self.settings.times.renew_deadline)
        raw = self.keeper.raw
        notes = raw.annotations if raw is not None else {}
        return Facts(
            now=boottime(),
            me=self.identity.pod,
            incarnation=self.identity.incarnation,
            settings=self.settings,
            declared=self.declared(),
            lease=lease,
            tenure=tenure,
            data=data,
            run=run,
            fencer_answers=self.guard.alive(FENCER_WITHIN),
            fenced=False,
            healthy=ill is None,
            unhealthy_why=ill or "",
            free_bytes=self.member.free_bytes(),
            leaving=self.leaving(),
            peers=self.book.peers(),
            pods={
                n: PodFacts(n, p.uid, p.role, p.deleting) for n, p in pods.items()
            },
            votes=self.poll.view(),
            voted_term=self.ballot.voted_term,
            promised=self.ballot.bound(lease),
            early=early,
            still=still,
            replication=self.pulse.seen(),
            barrier=self.pulse.barrier,
            job=job,
            request=asked.switchover(notes.get(asked.SWITCHOVER)),
            waiver=asked.waiver(notes.get(asked.WAIVER)),
            pending=self._pending(),
            curious_for=self.book.curious_for,
        )

    def _pending(self) -> frozenset[str]:
        busy = set()
        if self.errands.labelling:
            busy.add("labels")
        if self.book.asking:
            busy.add("peers")
        return frozenset(busy)

    def _run(self, job_running: bool, term: int) -> RunView:
        m, now = self.member, boottime()
        run = _RUN[self.server.poll()]
        if run is Run.STOPPED and self._was is not Run.STOPPED and not job_running:
            self._ended()
        if run in (Run.STANDBY, Run.PRIMARY):
            m.start_failures = 0
        if run is Run.PRIMARY and self._was is not Run.PRIMARY:
            self.pulse.begin()
            m.primary_timeline = 0
        if run is Run.PRIMARY and not m.primary_timeline and m.promoting:
            # Clients can keep every session out, so that SQL is not all that a promotion ends by.
            m.primary_timeline = self.sql.timeline(1.0) or m.promoted_to()
            if m.primary_timeline:
                m.promoted(m.primary_timeline)
        if run is Run.PRIMARY:
            m.primary_at = now
        else:
            m.primary_timeline = 0
        self._was = run
        if run is not Run.STOPPING or job_running:
            m.stopping_since = None
        elif m.stopping_since is None:
            m.stopping_since = now
        receiving = False
        if run in (Run.STANDBY, Run.RECOVERING) and m.attached_to is not None:
            receiver = self.server.receiver()
            if receiver is not None and receiver.lsn is not None:
                m.last_received_at, m.fruitless, receiving = now, 0, True
                m.flushed = receiver.lsn
                # Consistent and following another primary, with a flush that has succeeded.
                if run is Run.STANDBY and self.pulse.mended():
                    self.log("io-error-over", flushed=str(receiver.lsn))
        return RunView(
            run=run,
            attached_to=m.attached_to,
            attached_term=m.attached_term,
            attached_for=now - max(m.attached_at, m.last_received_at),
            receiving=receiving,
            stopped_for=now - m.stopped_at,
            stopping_for=m.stopping_for(),
            start_failures=m.start_failures,
            fruitless=m.fruitless,
            supply=m.supply,
            retry_in=max(0.0, m.retry_at - now) if m.start_failures else 0.0,
            silent=self.ear.silent(term),
            timeline=m.primary_timeline,
            stays_on=m.stays_on,
            promoting=m.promoting,
            rewindable_term=m.rewindable_term,
            asked_checkpoint_term=m.checkpoint_term,
            asked_slots_term=m.slots_term,
            primary_ago=now - m.primary_at,
            told=self.server.told,
            waited=self.server.waited(),
        )

    def _ended(self) -> None:
        """PostgreSQL ended by itself: nobody here asked for it."""
        m = self.member
        if self._was in (Run.STARTING, Run.RECOVERING):
            m.start_failures += 1
            m.retry_at = boottime() + min(30.0, 2.0 ** m.start_failures)
            if self._waits_for_room():
                m.start_failures = min(m.start_failures, GIVEN_UP - 1)
        self.log("postgres-ended", was=self._was.value, exit=self.server.exit())
        self.server.kill(5.0)  # a postmaster that died can leave children behind
        m.stopped_at, m.attached_to, m.promoting = boottime(), None, 0
        m.look()
        if self._was is Run.PRIMARY and self.pulse.flushed is not None:
            m.flushed = self.pulse.flushed.lsn

    def _waits_for_room(self) -> bool:
        """A full disk is not given up: room can be made, and in Asynchronous mode nobody else is
        known to have every commit of the last primary."""
        m, record = self.member, self.lease().record
        own = record.led_by(self.identity.pod, m.data.directory_id)
        return own and not self.settings.synchronous and room.short(m.free_bytes())

    def _data(self, run: RunView, job_running: bool, record: Record) -> DataView:
        m = self.member
        if run.run is Run.STOPPED and not job_running:
            refused = m.data.data is Data.REFUSED and boottime() - m.looked_at > LOOK_AGAIN
            if m.data.data is Data.UNKNOWN or refused:
                m.look()
            if m.data.data is Data.READY and m.data.end is None:
                try:
                    if boottime() - m.end_at > 2.0:
                        m.end_at = boottime()
                        m.read_end(WAL_WITHIN)
                except Exception as e:  # noqa: BLE001 - said, and seen as not knowing
                    self.log("end-of-wal-unknown", why=str(e))
        data = replace(m.data, owner_foreign=self.foreign_owner())
        if data.data is Data.READY and data.end is not None:
            data = replace(
                data, branch=branch_of(record, self.identity.pod, data.history, data.end)
            )
        return data
