"""What a simulated member does: each action of a decision, and what it began and ends later.

The executor's part in the simulated world; what a server, a copy, a promotion is there is in
`cluster`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pgha import actions as a
from pgha import quorum
from pgha.facts import Claim, Facts, Vote, Votes
from pgha.rules.leaving import released
from pgha.rules.room import PROMOTION, SEGMENT
from tests.simulation.cluster import Directory

if TYPE_CHECKING:
    from tests.simulation.member import Member


def perform(m: Member, action: a.Action, facts: Facts) -> bool:
    """False: what follows is not done."""
    w, d, s = m.world, m.directory, m.server
    match action:
        case a.StopServer(mode=mode):
            d.clean = mode == "fast" and s.run == "primary"
            if d.clean:  # a fast stop waits until the walsenders have sent everything
                for other in m.standbys():
                    other.directory.receive(d, len(d.wal))
            s.stop()
            m.end, m.stopped_at = None, w.now
            m.keeper.settled()
        case a.StartStandby():
            m.keeper.settled()
            s.start(quorum.at_start(facts.record, facts.settings.synchronous))
            m.end, d.clean = None, False
        case a.Attach(member=member, term=term):
            if term >= m.ballot.voted_term:
                s.attached, s.attached_term, s.attached_at = member, term, w.now
                m.end = None
        case a.Detach():
            s.attached, m.end = None, d.end
        case a.Acquire(record=record):
            if facts.promised > 0 and facts.tenure is None:
                return False
            if facts.lease.claim is Claim.SUSPECT:
                w.early.add(record.term)
            if m.keeper.acquire(record, facts.lease.version) is None:
                m.remember(m.keeper.record)
                m.votes = m.early = Votes()
                m.next_renewal = w.now + m.settings.times.renew_every
        case a.WriteRecord(record=record):
            if m.keeper.write(record) is not None:
                return False
            m.remember(m.keeper.record)
        case a.ReleaseLease(successor=successor, end=end):
            if m.keeper.release(released(facts, end), successor) is not None:
                _tell(m)
                m.keeper.reread()
        case a.AskVotes(term=term):
            _ask_votes(m, term, facts)
        case a.AskEarlyVotes(term=term, version=version):
            _ask_early_votes(m, term, version, facts)
        case a.AskPeers():
            last = m.curious[1]
            m.curious = (w.now if w.now - last > 3.0 else m.curious[0], w.now)
            for n, other in m.peers.items():
                if m.reachable(other):
                    m.seen[n] = (w.now, other.status())
                    m.hear(m.seen[n][1].term_seen)
        case a.SetSyncNames(value=value):
            if s.sync_names != value:
                s.tell(value, w.now + w.checkpoints.choice((0.0, 0.0, 1.0, 8.0)))
                m.barrier_of = None
            if s.run != "primary":
                s.reload(w.now)
        case a.Promote(number=number):
            if m.keeper.tenure() is not None and s.run == "standby" and not s.promoting:
                s.promoting, m.promote_at = number, w.now
                m.free -= SEGMENT  # the first of the new timeline
                if m.free < PROMOTION:
                    w.note(f"{m.name} has no room for another promotion")
                if w.wide and w.random.random() < 0.3:  # a slow end of recovery
                    m.promote_at += w.random.choice((0.5, 3.0, 12.0))
                _promotion(m)
        case a.MoveLabels(primary=primary, replicas=replicas):
            for n in (primary, *replicas):
                if n in m.peers:
                    m.peers[n].role = "primary" if n == primary else "replica"
        case a.LabelSelf():
            m.role = "replica"
        case a.Checkpoint():
            if facts.tenure:
                m.checkpointed = m.rewindable = facts.tenure.term
        case a.KeepSlots():
            if facts.tenure:
                m.slots = facts.tenure.term
        case a.StartJob(kind=kind, source=source):
            m.job = (kind, source, w.now + w.random.uniform(0.5, 3.0))
            if kind == "rewind":
                d.dirty = True
        case a.CancelJob():
            m.job = None
        case a.MarkDirty():
            d.dirty = True
        case a.End():
            m.die(w.random.uniform(1.0, 4.0))
            m.uid += 1  # the next container is another pod's
            m.same_pod = False
            return False
        case _:
            pass
    return True


def work(m: Member) -> None:
    """A promotion or a job that is due ends."""
    _promotion(m)
    if m.job is None or m.world.now < m.job[2]:
        return
    kind, source, _ = m.job
    m.job = None
    if kind == "initdb":
        if m.keeper.tenure() is not None:
            m.directory = Directory(id=m.world.token(), ready=True, clean=True)
        return
    origin = m.peers.get(source or "")
    if origin is not None and m.reachable(origin) and origin.server.run == "primary":
        m.directory.copy_of(origin.directory, m.world.token())


def _tell(m: Member) -> None:
    """Of a release that was not written; a notice may be long on its way."""
    w = m.world
    if m.keeper.unwritten is None:
        return
    for n, other in m.peers.items():
        if n != m.name and m.reachable(other):
            late = w.random.choice((0.0, 1.0, 6.0)) if w.wide else 0.0
            w.notices.append((w.now + late, n, *m.keeper.unwritten))


def _ask_votes(m: Member, term: int, facts: Facts) -> None:
    w = m.world
    same = m.votes.term == term
    answers = _answers(
        m, facts, m.votes.answers if same else {},
        lambda other: other.vote(term, m.identity.incarnation),
    )
    m.votes = Votes(term, m.votes.asked_for if same else w.now, False, w.now, answers)


def _ask_early_votes(m: Member, term: int, version: str, facts: Facts) -> None:
    if m.ballot.stand_still(term, version, time.monotonic() + 1.0)[0] is None:
        return
    answers = _answers(
        m, facts, m.early.answers if m.early.version == version else {},
        lambda other: other.early_vote(term, version, m.name),
    )
    m.early = Votes(term, 0.0, False, m.world.now, answers, version)


def _answers(
    m: Member, facts: Facts, known: Mapping[str, Vote], ask: Callable[[Member], Vote]
) -> dict[str, Vote]:
    """The votes that are known, and what the other voters grant when asked now."""
    answers = dict(known)
    for n in sorted(facts.record.voter_names - {m.name}):
        if n not in answers and n in m.peers and m.reachable(m.peers[n]):
            vote = ask(m.peers[n])
            if vote.granted:
                answers[n] = vote
    return answers


def _promotion(m: Member) -> None:
    """It ends whatever has become of the lease."""
    s = m.server
    if s.run == "standby" and s.promoting and m.world.now >= m.promote_at:
        m.directory.promote(s.promoting)
        m.pulse.begin()
        s.run, s.attached, m.end = "primary", None, None
