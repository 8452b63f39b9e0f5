"""Leaving in good order: a pod that ends, a switchover that was asked for, a disk that is full
(law, point 8; amendment 15).

The primary stops cleanly, proves that the successor has the end of its WAL, and gives the lease
back naming it. All uses share the same two steps.
"""

from __future__ import annotations

from dataclasses import replace

from pgha.actions import AskPeers, CancelJob, End, ReleaseLease, StopServer
from pgha.facts import Facts, Run
from pgha.lsn import Position
from pgha.record import Record
from pgha.rules import room
from pgha.rules.rule import Do, Rule
from pgha.settings import pod_of

REFUSE_FOR = 2.5  # seconds in which kube-proxy may still send clients to a former primary
PROVE_WITHIN = 4.0  # seconds after the stop that a successor gets to show it has everything


def switching(f: Facts) -> bool:
    """A switchover was asked for and not yet done or refused."""
    return f.request is not None and f.request.id != f.record.switched


def refuses_for(f: Facts) -> float:
    """Seconds in which a former primary is to refuse the clients that are sent to it still.

    Of two members the other one may wait for this one to come back, so that it does not stay away.
    """
    return max(0.0, REFUSE_FOR - f.run.primary_ago) if len(f.others()) > 1 else 0.0


def released(f: Facts, end: Position | None) -> Record:
    """The record with which the lease is given back. `end`: of this WAL, where it is proven; one
    that an earlier primary left is void once this member was promoted."""
    known = end or (None if f.promoted else f.record.end)
    done = f.request.id if f.request is not None and f.promoted else f.record.switched
    return replace(f.record, end=known, switched=done)


def _candidates(f: Facts) -> tuple[str, ...]:
    """Who could take over now, the best first: streaming, a voter, declared, and still there."""
    flushed = {s.name: s.flush or 0 for s in f.replication.senders if s.streaming}
    names = [
        n
        for n in f.others()
        if n in flushed
        and n in f.record.voter_names
        and not f.deleting(n)
        and (f.request is None or not switching(f) or f.request.to in (None, n))
    ]
    return tuple(sorted(names, key=lambda n: (-flushed[n], n)))


def _hand_over_starts(f: Facts) -> Do | None:
    if not (f.promoted and f.holds and f.run.run is Run.PRIMARY):
        return None
    if not f.leaving and not (switching(f) and _candidates(f)):
        refuges = room.refuges(f, _candidates(f))
        if not refuges:
            return None
        said = room.said(f, f"{', '.join(refuges)} has every byte and more room and takes over")
        stop = StopServer("fast", checkpoint_first=room.checkpoints(f))
        return Do([said, AskPeers(), stop], said.sentence)
    # Without anybody to hand over to, stopping cleanly still is right when the pod ends.
    return Do(
        [AskPeers(), StopServer("fast", checkpoint_first=True)],
        "to " + (", ".join(_candidates(f)) or "nobody"),
    )


def _has(f: Facts, name: str, end: Position) -> bool:
    peer = f.fresh(name, 1.0)
    return (
        peer is not None
        and peer.healthy
        and not peer.leaving
        and peer.position is not None
        and peer.position >= end
        and f.record.votes(name, peer.directory_id)
    )


def _all_leave(f: Facts) -> bool:
    """The pod ends, and those of all others as well: nobody can take over before new ones are
    there, and whoever has the end of WAL then is no worse for the lease being free."""

    def leaves(name: str) -> bool:
        peer = f.fresh(name, 1.0)
        return f.deleting(name) or peer is not None and peer.leaving

    return f.leaving and all(map(leaves, f.others()))


def _hand_over_ends(f: Facts) -> Do | None:
    if not (f.promoted and f.holds and f.run.run is Run.STOPPED and f.data.clean and f.data.end):
        return None
    if not f.leaving and not switching(f) and not room.moving(f):
        return None
    end = f.data.end
    wanted = f.request.to if f.request and switching(f) else None
    names = sorted(
        (n for n in f.others() if wanted in (None, n)
         and (f.leaving or switching(f) or room.roomy(f, n))),
        key=f.deleting,
    )
    for name in names:
        if _has(f, name, end):
            return Do([ReleaseLease(name, end)], f"{name} has {end.lsn}")
    if f.run.stopped_for < PROVE_WITHIN and f.others() and not _all_leave(f):
        return Do([AskPeers()], f"until a standby shows {end.lsn}", look_again_in=0.03)
    if f.leaving:
        return Do([ReleaseLease(None, end)], f"nobody showed {end.lsn}")
    return None  # a hand-over nobody can follow: the crash rules start this one again


def _last_primary(f: Facts) -> bool:
    """Is the end of this directory's WAL the end of the last primary's?"""
    r = f.record
    mine = r.led_by(f.me, f.data.directory_id)
    intent = r.open_intent
    return f.promoted or (mine and (intent is None or pod_of(intent.promoter) == f.me))


def _leaving(f: Facts) -> Do | None:
    if not f.leaving:
        return None
    if f.job.running:
        return Do([CancelJob()], look_again_in=0.1)
    if f.run.run is not Run.STOPPED:
        return Do([StopServer("fast")])
    if f.holds:
        # After a crash the end of WAL is known as well: nobody is promoted without it unseen.
        return Do([ReleaseLease(None, f.data.end if _last_primary(f) else None)])
    return Do([End()])


RULES = (
    Rule(
        "hand-over-stop",
        "The primary stops cleanly so that a standby can take over with every byte.",
        _hand_over_starts,
    ),
    Rule(
        "hand-over-release",
        "The lease is given back once a standby shows the end of this WAL.",
        _hand_over_ends,
    ),
    Rule("leaving", "The pod ends: PostgreSQL stops, the lease is given back.", _leaving),
)
