"""Performs actions, one at a time. Owns every change that the agent makes; decides nothing.

Every action is safe to perform twice, checks the lease again where writing could follow, and ends
by a deadline. A failure is logged and the next decision is made from new facts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgha import actions as a
from pgha import quorum
from pgha.ballot import Ballot
from pgha.book import Book
from pgha.clock import boottime
from pgha.facts import Facts, Run, Supply
from pgha.jobs import Jobs
from pgha.keeper import Keeper
from pgha.kube.errands import Errands
from pgha.member import Member
from pgha.pace import Backoff
from pgha.postgres.server import Server, ServerConf
from pgha.postgres.sql import Sql
from pgha.postgres.supply import Answer, ask_for_wal
from pgha.pulse import Pulse
from pgha.record import Record
from pgha.rules.leaving import released
from pgha.rules.primary import slot_of
from pgha.settings import Identity, Settings
from pgha.votes import Poll

FAST_STOP = 25.0  # seconds for a fast stop before an immediate one
IMMEDIATE_STOP = 3.0  # seconds before SIGKILL
DETACH_WITHIN = 3.0
REPEAT_AFTER = 60.0  # seconds until the same sentence becomes an Event again
CHECKPOINT_AGAIN = 1.0  # seconds after one that failed
WAL_WITHIN = 30.0  # seconds for reading the exact end of WAL


class NotWritten(Exception):
    """A compare-and-swap failed: what was to follow it is not done. `asked`: seconds for which the
    API server wants to be left alone."""

    def __init__(self, why: str, asked: float = 0.0) -> None:
        super().__init__(why)
        self.asked = asked


@dataclass
class Executor:
    settings: Settings
    identity: Identity
    member: Member
    server: Server
    conf: Callable[[], ServerConf]
    sql: Sql
    keeper: Keeper
    ballot: Ballot
    book: Book
    poll: Poll
    early: Poll
    jobs: Jobs
    pulse: Pulse
    errands: Errands
    password: Callable[[], str]
    log: Callable[..., None]
    apply_roles: Callable[[], None]
    end: Callable[[], None]
    tell: Callable[[str, Record], Sequence[str]] = lambda version, record: ()  # the other members
    asked: Callable[[], float] = lambda: 0.0  # seconds for which the Lease is to be left alone
    clock: Callable[[], float] = boottime
    pause: Callable[[float], None] = time.sleep
    _announced: tuple[a.Announce | None, float] = (None, float("-inf"))

    def __post_init__(self) -> None:
        self._acquiring = Backoff(self.settings.times.retry_period, lambda: self.clock())

    def settle(self, facts: Facts) -> None:
        """A fencer armed in a tenure that is over would strike a standby that is well: who gives
        the lease to a member with more WAL never was writable."""
        if facts.nothing_to_fence:
            self.keeper.settled()

    def perform(self, action: a.Action, facts: Facts) -> None:
        """Raises whatever went wrong; the caller logs it and decides anew."""
        _PERFORM[type(action)](self, action, facts)

    # -- PostgreSQL -----------------------------------------------------------------------------

    def stop_server(self, action: a.StopServer, facts: Facts) -> None:
        was = facts.run.run
        if action.checkpoint_first and was is Run.PRIMARY:
            try:
                self.sql.checkpoint(timeout=min(5.0, max(1.0, facts.settings.times.retry_period)))
            except Exception as e:  # noqa: BLE001 - the stop's own checkpoint is what counts
                self.log("checkpoint-skipped", why=str(e))
        limit = IMMEDIATE_STOP
        if action.mode == "fast":
            leads = was in (Run.PRIMARY, Run.STOPPING)
            left = facts.tenure.left if facts.tenure and leads else FAST_STOP
            limit = min(FAST_STOP, max(1.0, left - 0.5))
        if not self.server.stop(action.mode, limit) and not (
            action.mode == "fast" and self.server.stop("immediate", IMMEDIATE_STOP)
        ):
            self.server.kill(5.0)
        self.after_stop()

    def after_stop(self) -> None:
        m = self.member
        m.stopped_at = boottime()
        m.attached_to, m.promoting = None, 0
        self.keeper.settled()
        m.look()

    def start_standby(self, action: a.StartStandby, facts: Facts) -> None:
        m = self.member
        m.set_end(None)
        self.keeper.settled()  # a fencer armed in a tenure that is over would strike this start
        m.attached_to, m.promoting, m.stays_on = None, 0, action.timeline
        conf = self.conf()
        names = quorum.at_start(facts.record, facts.settings.synchronous)
        timeline = str(action.timeline or conf.timeline)
        self.server.start(replace(conf, timeline=timeline, sync_names=names))

    def attach(self, action: a.Attach, facts: Facts) -> None:
        m = self.member
        if facts.still or facts.promised <= 0 and action.term < self.ballot.voted_term:
            return
        m.set_end(None)
        self.server.attach(
            self.settings.host(action.member), 5432, self.password(), self.identity.pod,
            slot_of(self.identity.pod),
        )
        m.attached_to, m.attached_term, m.attached_at = action.member, action.term, boottime()
        m.last_received_at = float("-inf")
        if m.fruitless_term != action.term:
            m.fruitless, m.fruitless_term = 0, action.term
        m.fruitless += 1  # taken back as soon as something is received

    def detach(self, action: a.Detach, facts: Facts) -> None:
        if self.server.detach(DETACH_WITHIN):
            self.member.attached_to = None
            self.member.read_end(WAL_WITHIN)

    def promote(self, action: a.Promote, facts: Facts) -> None:
        m = self.member
        if m.promoting == action.number:
            return
        tenure = self.keeper.tenure()
        if tenure is None or tenure.left < 1.0:
            return
        # The intent is seen on the Lease though keeping it may have failed: see `write_record`.
        self.member.remember(facts.record)
        if m.data.timeline + 1 < action.number and facts.data.end is not None:
            # PostgreSQL takes the number after the newest history file it knows (amendment 8).
            for number in range(m.data.timeline + 1, action.number):
                m.directory.stub_history(
                    number, m.data.history, m.data.timeline, facts.data.end.lsn
                )
        m.promoting = action.number
        self.server.promote()

    def set_sync_names(self, action: a.SetSyncNames, facts: Facts) -> None:
        self.member.remember(facts.record)  # as before a promotion
        if {self.server.sync_names(), self.server.told} != {action.value}:
            self.server.set_sync_names(action.value)
            self.pulse.told(action.value)
        self.pulse.look_now()

    def checkpoint(self, action: a.Checkpoint, facts: Facts) -> None:
        tenure = facts.tenure
        if tenure is None:
            return
        self.member.checkpoint_term = tenure.term

        def run() -> None:
            done = False
            try:
                self.sql.checkpoint(timeout=600.0)
                self.member.rewindable_term, done = tenure.term, True
            except Exception as e:  # noqa: BLE001
                self.log("checkpoint-failed", why=str(e))
            try:
                self.apply_roles()
            except Exception as e:  # noqa: BLE001 - the roles of before stay; the next term tries
                self.log("roles-not-applied", why=str(e))
            if not done:
                # Until it is asked for again the rules behind this one get their turn.
                self.pause(CHECKPOINT_AGAIN)
                if self.member.checkpoint_term == tenure.term:
                    self.member.checkpoint_term = 0

        threading.Thread(target=run, name="checkpoint", daemon=True).start()

    def keep_slots(self, action: a.KeepSlots, facts: Facts) -> None:
        for name in action.drop:
            self.sql.drop_slot(name)
        for member in action.create:
            self.sql.create_slot(slot_of(member))
        if facts.tenure is not None:
            self.member.slots_term = facts.tenure.term
        self.pulse.look_now()

    # -- the lease ------------------------------------------------------------------------------

    def acquire(self, action: a.Acquire, facts: Facts) -> None:
        if facts.promised > 0 and facts.tenure is None:
            return
        if self._acquiring.left > 0:
            return  # it has failed, which was said; the rule goes on asking for it
        judged = facts.lease.version
        sent = self.keeper.version == judged
        why = self.keeper.acquire(action.record, judged)
        if why is None:
            self._acquiring.worked()
            self.log("acquired", term=action.record.term)
            self.poll.forget()
            self.early.forget()
            self.member.remember(self.keeper.record)
            return
        self.log("not-acquired", term=action.record.term, why=why)
        if sent:
            # Another Lease than the one that was judged is a new matter: nothing to wait for.
            self._acquiring.failed(self.keeper.version != judged, self.asked())

    def write_record(self, action: a.WriteRecord, facts: Facts) -> None:
        if (asked := self.asked()) > 0:
            raise NotWritten("the API server asks to leave the Lease alone", asked)
        why = self.keeper.write(action.record)
        if why is not None:
            raise NotWritten(f"the record on the Lease was not written: {why}", self.asked())
        # Before anything follows from a record that this member wrote, it is on the own disk.
        self.member.remember(self.keeper.record)

    def release_lease(self, action: a.ReleaseLease, facts: Facts) -> None:
        why = self.keeper.release(released(facts, action.end), action.successor)
        told = None
        if why is not None and self.keeper.unwritten is not None:
            told = ", ".join(self.tell(*self.keeper.unwritten)) or "nobody"
        self.log("released", successor=action.successor, end=str(action.end), failed=why, told=told)
        if why is not None:
            self.keeper.reread()

    def ask_votes(self, action: a.AskVotes, facts: Facts) -> None:
        self.poll.ask(action.term, sorted(facts.record.voter_names - {facts.me}))

    def ask_early_votes(self, action: a.AskEarlyVotes, facts: Facts) -> None:
        until = time.monotonic() + DETACH_WITHIN
        position, why = self.ballot.stand_still(action.term, action.version, until)
        if position is None:
            raise RuntimeError(f"the own early vote was not given: {why}")
        others = facts.record.voter_names - {facts.me, facts.lease.holder_pod}
        self.early.ask_early(action.term, action.version, sorted(others))

    def ask_for_wal(self, action: a.AskForWal, facts: Facts) -> None:
        m, before = self.member, self.member.supply
        if before.pending:
            return
        asked = Supply(action.term, action.attachment, action.end, pending=True)
        m.supply = asked
        again = (before.term, before.end) == (action.term, action.end)

        def run() -> None:
            try:
                answer, why = ask_for_wal(
                    self.settings.host(action.source), self.password(),
                    slot_of(self.identity.pod), action.end, m.directory.control().segment_size,
                )
            except Exception as e:  # noqa: BLE001 - not known is an answer
                answer, why = Answer.UNKNOWN, str(e) or repr(e)
            sent = (before.sent if again else 0) + 1 if answer is Answer.SENT else 0
            m.supply = replace(
                asked, pending=False, lacks=answer is Answer.LACKS, sent=sent, why=why
            )
            self.log("asked-for-wal", source=action.source, end=str(action.end), answer=why)

        threading.Thread(target=run, name="supply", daemon=True).start()

    # -- the rest -------------------------------------------------------------------------------

    def ask_peers(self, action: a.AskPeers, facts: Facts) -> None:
        self.book.ask()

    def move_labels(self, action: a.MoveLabels, facts: Facts) -> None:
        primary = facts.pods[action.primary]
        replicas = [(n, facts.pods[n].uid) for n in action.replicas if n in facts.pods]
        self.errands.set_roles(
            (action.primary, primary.uid), replicas, action.term, action.replicas_first
        )

    def label_self(self, action: a.LabelSelf, facts: Facts) -> None:
        self.errands.label_self(action.role, action.term)

    def start_job(self, action: a.StartJob, facts: Facts) -> None:
        # PostgreSQL is stopped. A fencer armed in a tenure that is over would strike the copy.
        self.keeper.settled()
        self.jobs.start(action.kind, action.source)

    def cancel_job(self, action: a.CancelJob, facts: Facts) -> None:
        self.jobs.cancel()

    def mark_dirty(self, action: a.MarkDirty, facts: Facts) -> None:
        self.member.directory.mark_dirty(action.why)
        self.member.fruitless = 0
        self.member.look()

    def announce(self, action: a.Announce, facts: Facts) -> None:
        if action == self._announced[0] and boottime() - self._announced[1] < REPEAT_AFTER:
            return
        self._announced = action, boottime()
        self.errands.event(
            "Pod", action.reason, action.sentence, warning=action.kind == "Warning"
        )

    def end_process(self, action: a.End, facts: Facts) -> None:
        self.end()


_PERFORM: dict[type, Callable[[Executor, Any, Facts], None]] = {
    a.StopServer: Executor.stop_server,
    a.StartStandby: Executor.start_standby,
    a.Attach: Executor.attach,
    a.Detach: Executor.detach,
    a.Promote: Executor.promote,
    a.SetSyncNames: Executor.set_sync_names,
    a.Checkpoint: Executor.checkpoint,
    a.KeepSlots: Executor.keep_slots,
    a.Acquire: Executor.acquire,
    a.WriteRecord: Executor.write_record,
    a.ReleaseLease: Executor.release_lease,
    a.AskVotes: Executor.ask_votes,
    a.AskEarlyVotes: Executor.ask_early_votes,
    a.AskPeers: Executor.ask_peers,
    a.AskForWal: Executor.ask_for_wal,
    a.MoveLabels: Executor.move_labels,
    a.LabelSelf: Executor.label_self,
    a.StartJob: Executor.start_job,
    a.CancelJob: Executor.cancel_job,
    a.MarkDirty: Executor.mark_dirty,
    a.Announce: Executor.announce,
    a.End: Executor.end_process,
}
