"""What a decision is made from: frozen facts, gathered once per wake-up.

Owns the shapes only. Nothing here reads a clock, a disk or a socket; times are seconds of
CLOCK_BOOTTIME (`now`) or ages in seconds. What is not known is None or absent, never guessed:
an unreachable peer is unknown, not down (law, point 6).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pgha.lsn import LSN, History, Position
from pgha.record import Record
from pgha.settings import Settings, pod_of


class Claim(enum.Enum):
    """What the observed Lease allows (law, points 1 and 5; amendments 10, 12, 17)."""

    HELD = "held"  # somebody's, and not old enough
    RELEASED = "released"  # given back, with the holder's own mark
    EXPIRED = "expired"  # unchanged for the larger of the recorded and the own duration
    DEAD = "dead"  # that very incarnation is certified dead
    OWN_DEAD = "own dead"  # this pod's own: of an earlier start proven gone, or of a tenure over
    SUSPECT = "suspect"  # held, by a primary that can acknowledge nothing any more
    VACANT = "vacant"  # nobody's, without a release mark, for less than a full duration
    UNKNOWN = "unknown"  # not seen yet, or unreadable


class Data(enum.Enum):
    """The data directory, as far as a decision needs it."""

    EMPTY = "empty"
    INITIALIZING = "initializing"
    READY = "ready"
    DIRTY = "dirty"
    REFUSED = "refused"  # foreign, of another major version, or broken: kept, never touched
    UNKNOWN = "unknown"


class Run(enum.Enum):
    """PostgreSQL, as the process table shows it."""

    STOPPED = "stopped"
    STARTING = "starting"
    RECOVERING = "recovering"  # replays, not yet consistent
    STANDBY = "standby"
    PRIMARY = "primary"
    STOPPING = "stopping"


class Branch(enum.Enum):
    """The own history against the recorded one (law, point 10)."""

    SAME = "same"
    BEHIND = "behind"
    AHEAD = "ahead"  # by a promotion that is intended and not known to have happened
    DIVERGED = "diverged"  # also what goes on from the recorded one without any record of it
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class LeaseView:
    claim: Claim = Claim.UNKNOWN
    holder: str | None = None
    age: float = 0.0  # seconds since its last observed change
    record: Record = field(default_factory=Record)
    why: str = ""  # why it is unreadable or unknown
    version: str = ""  # which Lease this is; an acquisition is of this one or fails
    unsettled: bool = False  # a changed record was sent, and whether it landed is not known

    @property
    def holder_pod(self) -> str | None:
        return pod_of(self.holder)


@dataclass(frozen=True)
class Tenure:
    """The lease held by this very container."""

    term: int
    left: float  # seconds until renewDeadline (or until the promises end): then PostgreSQL stops
    since: float  # seconds since it was acquired


@dataclass(frozen=True)
class DataView:
    data: Data = Data.UNKNOWN
    why: str = ""
    directory_id: str | None = None
    system_id: int | None = None
    timeline: int = 0
    history: History = field(default_factory=History)
    end: Position | None = None  # exact end of WAL, known only while nothing writes
    clean: bool = False  # shut down as a primary, checkpoint written
    branch: Branch = Branch.UNKNOWN
    owner_foreign: str = ""  # why the directory may be another pod's; empty: it is not
    overtaken: bool = False  # a later timeline is known here that left this one past `end`
    newest: int = 0  # the highest number that a history file has, no stub; as of `end`
    lacks: Position | None = None  # WAL from there on is needed by recovery and not here


@dataclass(frozen=True)
class Supply:
    """What the primary answered when it was asked for the WAL that is next after `end`."""

    term: int = 0
    attachment: int = 0  # the how many-th in vain in this term it was asked after
    end: Position | None = None
    pending: bool = False
    lacks: bool = False  # it said that it has this WAL no more
    sent: int = 0  # times in a row that it sent it to the agent, though PostgreSQL received none
    why: str = ""  # in one sentence


@dataclass(frozen=True)
class RunView:
    run: Run = Run.STOPPED
    attached_to: str | None = None
    attached_term: int = 0
    attached_for: float = 0.0
    receiving: bool = False
    stopped_for: float = 0.0
    stopping_for: float = 0.0  # seconds; what a job stops is its own matter
    start_failures: int = 0
    fruitless: int = 0  # attachments in this term that received nothing
    supply: Supply = field(default_factory=Supply)
    retry_in: float = 0.0
    silent: float | None = None  # seconds since it heard this term's primary; None: it never did
    timeline: int = 0
    stays_on: int = 0  # the timeline that it was started to stay on; 0: the latest it knows
    promoting: int = 0  # the number it was told to promote to, since it was started
    rewindable_term: int = 0
    asked_checkpoint_term: int = 0
    asked_slots_term: int = 0
    primary_ago: float = math.inf  # seconds since it was a primary last
    told: str | None = None  # synchronous_standby_names as written last; None: nobody can say
    # synchronous_standby_names was never empty since the start; None: whether the checkpointer has
    # read it then is not known yet
    waited: bool | None = True


@dataclass(frozen=True)
class Peer:
    """A peer's own answer, `age` seconds old."""

    name: str
    age: float
    uid: str
    directory_id: str | None
    data: Data
    run: Run
    system_id: int | None
    position: Position | None
    healthy: bool
    term_seen: int
    rewindable_term: int = 0
    receiving: bool = False
    record: str | None = None
    hot: bool = False
    leaving: bool = False
    free_bytes: int | None = None
    silent: float | None = None  # as RunView.silent, when it was asked


@dataclass(frozen=True)
class Vote:
    name: str
    directory_id: str | None
    granted: bool
    position: Position | None
    branch: Branch
    healthy: bool
    why: str = ""
    left_at: LSN | None = None  # where a stray left the recorded timeline; it has that up to there


@dataclass(frozen=True)
class Votes:
    """The answers to this term's question; `asked_for` seconds since it was first asked."""

    term: int = 0
    asked_for: float = 0.0
    pending: bool = False
    last_asked: float = 1e9
    answers: Mapping[str, Vote] = field(default_factory=dict)
    version: str = ""  # of the Lease that early votes are about


@dataclass(frozen=True)
class Sender:
    """A standby as the primary's pg_stat_replication shows it."""

    name: str
    flush: LSN | None
    streaming: bool
    directory_id: str | None = None  # learned from the member after this connection began
    caught_up: bool = False  # flushed past a position of the primary that was read earlier


@dataclass(frozen=True)
class Replication:
    """What the primary's own SQL showed, `age` seconds ago."""

    age: float = 1e9
    senders: tuple[Sender, ...] = ()
    flush: LSN | None = None
    sync_names: str | None = None
    slots: Mapping[str, bool] = field(default_factory=dict)  # name -> not lost
    missing_for: float = 0.0  # seconds that fewer than W of S have been heard


@dataclass(frozen=True)
class Barrier:
    """Proof that the active setting holds (amendment 3): W members of S flushed past `lsn`."""

    names: str = ""
    passed: bool = False


@dataclass(frozen=True)
class Job:
    kind: str = ""  # clone, rewind, initdb
    running: bool = False
    failed: str | None = None
    failures: int = 0
    retry_in: float = 0.0


@dataclass(frozen=True)
class PodFacts:
    name: str
    uid: str
    role: str | None
    deleting: bool = False


@dataclass(frozen=True)
class Request:
    """A switchover asked for through the Lease's annotation."""

    id: str
    to: str | None


@dataclass(frozen=True)
class Waiver:
    """A person accepts that commits of the promotion of `term` are lost, and names who leads."""

    id: str
    term: int
    member: str


@dataclass(frozen=True)
class Facts:
    now: float
    me: str
    incarnation: str
    settings: Settings
    declared: tuple[str, ...] = ()  # empty: not known
    lease: LeaseView = field(default_factory=LeaseView)
    tenure: Tenure | None = None
    data: DataView = field(default_factory=DataView)
    run: RunView = field(default_factory=RunView)
    fencer_answers: bool = True
    fenced: bool = False
    healthy: bool = True
    unhealthy_why: str = ""
    free_bytes: int | None = None  # where the data directory is; None: not known
    leaving: bool = False
    peers: Mapping[str, Peer] = field(default_factory=dict)
    pods: Mapping[str, PodFacts] = field(default_factory=dict)
    votes: Votes = field(default_factory=Votes)
    voted_term: int = 0
    promised: float = 0.0  # seconds that a promise to the holder still runs
    early: Votes = field(default_factory=Votes)  # early votes, given before the lease is free
    still: bool = False  # this member's own early vote stands: it may receive from nobody
    replication: Replication = field(default_factory=Replication)
    barrier: Barrier = field(default_factory=Barrier)
    job: Job = field(default_factory=Job)
    request: Request | None = None
    waiver: Waiver | None = None
    pending: frozenset[str] = frozenset()  # errands under way
    curious_for: float = 0.0  # seconds that the peers have been asked for their state

    @property
    def record(self) -> Record:
        return self.lease.record

    @property
    def holds(self) -> bool:
        return self.tenure is not None and self.tenure.left > 0

    @property
    def promoted(self) -> bool:
        """Is this term's promotion on the record, by this very container?"""
        p = self.record.promotion
        return (
            self.tenure is not None
            and p is not None
            and p.done
            and p.term == self.tenure.term
            and p.promoter == self.incarnation
        )

    @property
    def nothing_to_fence(self) -> bool:
        """Without the lease PostgreSQL follows or recovers: nothing here becomes writable before
        another one is taken."""
        r = self.run
        harmless = r.run in (Run.STARTING, Run.RECOVERING, Run.STANDBY) and not r.promoting
        return self.tenure is None and harmless and not self.job.running

    @property
    def holder_is_primary(self) -> bool:
        """Somebody else holds, and has completed its promotion in the recorded term.

        A holder that is not the recorded promoter wrote itself in by other means.
        """
        p = self.record.promotion
        return (
            not self.holds
            and self.lease.holder_pod is not None
            and self.lease.holder != self.incarnation
            and p is not None
            and p.done
            and p.term == self.record.term
            and p.promoter == self.lease.holder
        )

    @property
    def position(self) -> Position | None:
        return self.data.end

    def fresh(self, name: str, within: float = 3.0) -> Peer | None:
        peer = self.peers.get(name)
        return peer if peer is not None and peer.age <= within else None

    def deleting(self, name: str) -> bool:
        """Its pod is there and ends."""
        pod = self.pods.get(name)
        return pod is not None and pod.deleting

    def others(self) -> tuple[str, ...]:
        return tuple(n for n in self.declared if n != self.me)
