"""The facts of a simulated member: the gatherer's and the pulse's part in the simulated world."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgha.facts import (
    Barrier,
    Branch,
    Data,
    DataView,
    Facts,
    Job,
    PodFacts,
    Replication,
    Run,
    RunView,
    Sender,
)
from pgha.gather import branch_of
from pgha.lsn import LSN
from pgha.quorum import quorum_of
from pgha.rules import suspect

if TYPE_CHECKING:
    from tests.simulation.member import Member

RUNS = {"stopped": Run.STOPPED, "standby": Run.STANDBY, "primary": Run.PRIMARY}


def facts_of(m: Member) -> Facts:
    w, d, s = m.world, m.directory, m.server
    m.listen()
    view = m.keeper.view(m.certified_dead, m.gone)
    still = m.ballot.still(view.version)
    early = replace(m.early, last_asked=w.now - m.early.last_asked)
    view = suspect.claim(view, m.settings, (m.name, d.id or None), still, early)
    state = (
        Data.DIRTY if d.dirty else Data.READY if d.ready else Data.EMPTY
    )
    ready = state is Data.READY
    end = m.end if s.run != "stopped" else (d.end if ready else None)
    data = DataView(
        state, "", d.id if ready else None, 7 if ready else None, d.timeline, d.history,
        end, d.clean, branch_of(view.record, m.name, d.history, d.end)
        if ready and end else Branch.UNKNOWN, newest=d.newest,
    )
    running = m.job is not None
    _look_at_standbys(m)
    pods = {
        n: PodFacts(n, str(x.uid), x.role, x.leaving) for n, x in m.peers.items() if x.alive
    }
    if s.run == "primary":
        m.primary_at = w.now
    elif m.receiving():
        m.pulse.mended()
    run = RunView(
        RUNS[s.run], s.attached, s.attached_term, w.now - s.attached_at,
        m.receiving(), w.now - m.stopped_at, timeline=d.timeline if s.run == "primary"
        else 0, promoting=s.promoting, rewindable_term=m.rewindable,
        asked_checkpoint_term=m.checkpointed, asked_slots_term=m.slots,
        silent=m.silent(), primary_ago=w.now - m.primary_at, waited=s.waited,
        told=s.sync_names if s.run == "primary" else None,
    )
    curious = w.now - m.curious[0] if w.now - m.curious[1] <= 3.0 else 0.0
    return Facts(
        now=w.now, me=m.name, incarnation=m.identity.incarnation,
        settings=m.settings, declared=m.declared, lease=view,
        tenure=m.keeper.tenure(), data=data, run=run, leaving=m.leaving,
        peers={n: replace(p, age=w.now - at) for n, (at, p) in m.seen.items()},
        pods=pods, votes=replace(
            m.votes, asked_for=w.now - m.votes.asked_for,
            last_asked=w.now - m.votes.last_asked,
        ),
        voted_term=m.ballot.voted_term,
        promised=m.ballot.bound(view), early=early, still=still,
        replication=_replication(m), barrier=_barrier(m),
        job=Job(m.job[0] if m.job else "", running),
        request=m.request, waiver=m.waiver, curious_for=curious,
        free_bytes=m.free_bytes(), healthy=not m.ill(), unhealthy_why=m.ill(),
    )


def waiting(m: Member) -> bool:
    """Does every commit wait for whom the server is told to wait for?"""
    return m.server.waits


def _look_at_standbys(m: Member) -> None:
    if m.server.run != "primary":
        m.barrier_of, m.missing_since, m.flush_before = None, None, -1
        m.fresh_senders = {}
        return
    names = m.server.active_names
    if names and not waiting(m):  # as `pgha.waiting` would tell
        m.barrier_of = None
    elif m.barrier_of is None or m.barrier_of[0] != names:
        m.barrier_of = (names, len(m.directory.wal), m.world.now)
    record = m.record()
    s = {x.name for x in m.standbys()} & record.voter_names & set(m.declared)
    if len(s) >= record.write_quorum:
        m.missing_since = None
    elif m.missing_since is None:
        m.missing_since = m.world.now


def _replication(m: Member) -> Replication:
    if m.server.run != "primary":
        return Replication()
    before, m.flush_before = m.flush_before, len(m.directory.wal)
    senders = tuple(
        Sender(x.name, LSN(len(x.directory.wal) * 64), True, x.directory.id,
               before >= 0 and len(x.directory.wal) >= before)
        for x in m.standbys()
    )
    slots = {f"pgha_{n.replace('-', '_')}": True for n in m.declared if n != m.name}
    missing = 0.0 if m.missing_since is None else m.world.now - m.missing_since
    return Replication(0.0, senders, m.directory.end.lsn, m.server.active_names, slots,
                       missing)


def _barrier(m: Member) -> Barrier:
    if m.barrier_of is None:
        return Barrier()
    names, at, since = m.barrier_of
    s = m.record().voter_names - {m.name}
    past = [x for x in m.standbys() if x.name in s and len(x.directory.wal) >= at]
    return Barrier(names, m.world.now > since
                   and len(past) >= max(1, quorum_of(names)))
