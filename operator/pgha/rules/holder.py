"""The holder's own server before a promotion: what follows when it ended by itself, and its start.

After a crash the lease goes to a standby that is shown to have every byte, else PostgreSQL restarts
here in a new term (amendment 21).
"""

from __future__ import annotations

from dataclasses import replace

from pgha.actions import Acquire, AskPeers, ReleaseLease, StartStandby, StopServer
from pgha.facts import Data, Facts, Run
from pgha.rules import room, waiver
from pgha.rules.leaving import switching
from pgha.rules.rule import Do, Rule

CONSISTENT_WITHIN = 60.0  # seconds that the holder's recovery may take while others are ready
STOPS_WITHIN = 3.0  # seconds that a stop which nobody here asked for may take
PROVE_CRASH_WITHIN = 0.5  # seconds to find a standby with every byte after PostgreSQL died


def _stopping(f: Facts) -> Do | None:
    """A smart shutdown waits for its sessions, for ever if need be, and lets no new ones in. What
    is asked for here is over before there are new facts, unless it could not be done."""
    if f.run.run is not Run.STOPPING or f.job.running:
        return None
    if f.run.stopping_for < STOPS_WITHIN:
        return Do((), look_again_in=0.2)
    return Do([StopServer("fast")], f"for {f.run.stopping_for:.0f} s")


def _was_primary(f: Facts) -> bool:
    return f.holds and f.promoted and f.run.run is Run.STOPPED and f.data.data is Data.READY


def _crash_hand_over(f: Facts) -> Do | None:
    """PostgreSQL ended by itself: give over to a standby that provably has every byte."""
    if not _was_primary(f) or f.data.end is None:
        return None
    end = f.data.end
    for name in f.others():
        peer = f.fresh(name, 1.0)
        if (
            peer is not None and peer.healthy and peer.position is not None
            and peer.position >= end and f.record.votes(name, peer.directory_id)
        ):
            return Do([ReleaseLease(name, end)], f"{name} has {end.lsn}")
    if f.run.stopped_for < PROVE_CRASH_WITHIN and f.healthy and any(
        _may_still_have(f, name) for name in f.others()
    ):
        return Do([AskPeers()], f"who has {end.lsn}?", look_again_in=0.05)
    return None


def _may_still_have(f: Facts, name: str) -> bool:
    """It was not heard since PostgreSQL ended here, or something is on its way to it still."""
    peer = f.fresh(name, f.run.stopped_for)
    return peer is None or peer.position is None or peer.receiving


def _crash_give_up(f: Facts) -> Do | None:
    """Restarting here does not work: let another member try."""
    if _was_primary(f) and (not f.healthy or f.run.start_failures >= 3):
        return Do([ReleaseLease(None, f.data.end)], f.unhealthy_why or "PostgreSQL does not start")
    return None


def _crash_restart(f: Facts) -> Do | None:
    """A new term for a new promotion: one promotion per lease transition (I4)."""
    if not _was_primary(f):
        return None
    done = f.request.id if f.request and switching(f) else f.record.switched
    again = replace(f.record, term=f.record.term + 1, switched=done, release=None)
    return Do([Acquire(again)])


def _start(f: Facts) -> Do | None:
    if not f.holds or f.run.run is not Run.STOPPED or f.data.data is not Data.READY:
        return None
    if f.run.start_failures >= 3:
        return Do([ReleaseLease()], "PostgreSQL does not start here")
    if f.run.retry_in > 0:
        said = [room.said(f, "PostgreSQL does not start without room")] if room.full(f) else []
        return Do(said, "after a failed start", look_again_in=f.run.retry_in)
    # Before a promotion: see the rule `keep-timeline`.
    return Do([StartStandby(f.data.timeline if f.data.overtaken else waiver.timeline(f))])


def _no_data(f: Facts) -> Do | None:
    if f.holds and f.record.init == "initialized" and f.data.data in (Data.EMPTY, Data.DIRTY):
        return Do([ReleaseLease()], f.data.why)
    return None


def _starting(f: Facts) -> Do | None:
    if not f.holds or f.promoted or f.run.run not in (Run.STARTING, Run.RECOVERING):
        return None
    assert f.tenure is not None
    if f.run.run is Run.RECOVERING and f.tenure.since > CONSISTENT_WITHIN and _has_better(f):
        return Do([ReleaseLease()], "recovery takes long, and another member is ready")
    return Do((), look_again_in=0.02)


def _has_better(f: Facts) -> bool:
    """Somebody who may take over is consistent already."""
    return any(
        p.name != f.me and p.age < 10.0 and p.healthy and p.run is Run.STANDBY
        and f.record.votes(p.name, p.directory_id)
        for p in f.peers.values()
    )


RULES = (
    Rule(
        "stopping",
        "PostgreSQL stops though nobody here asked for it: it gets a moment, then it is hurried.",
        _stopping,
    ),
    Rule(
        "crash-hand-over",
        "PostgreSQL ended here; a standby with every byte of its WAL takes over at once.",
        _crash_hand_over,
    ),
    Rule(
        "crash-give-up",
        "PostgreSQL cannot run here, so the lease is given back.",
        _crash_give_up,
    ),
    Rule(
        "crash-restart",
        "PostgreSQL ended here and nobody has all of its WAL: it restarts here in a new term.",
        _crash_restart,
    ),
    Rule("holder-empty", "The holder has no usable data and gives the lease back.", _no_data),
    Rule("holder-start", "The holder starts PostgreSQL, read-only first.", _start),
    Rule("holder-starting", "The holder waits for PostgreSQL to be consistent.", _starting),
)
