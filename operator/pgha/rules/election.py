"""Who takes a lease that is free. A refused failover says why (law, points 6, 12, 14, 15)."""

from __future__ import annotations

from dataclasses import replace

from pgha.actions import Acquire, Announce, AskPeers, Detach
from pgha.facts import Branch, Claim, Data, Facts, Peer, Run
from pgha.lsn import LSN, Position
from pgha.rules import room, waiver
from pgha.rules.heard import proven
from pgha.rules.promotion import intended
from pgha.rules.rule import Do, Rule
from pgha.settings import ordinal

_ZERO = LSN(0)
LISTEN = 1.0  # seconds that peers get to answer before a member takes itself for the best
GRACE = 3.0  # seconds that a named successor has for itself
PREFERENCE = 5.0  # seconds that a better member which does not take the lease is waited for

FREE = (Claim.RELEASED, Claim.EXPIRED, Claim.DEAD, Claim.OWN_DEAD, Claim.SUSPECT)


def ineligible(f: Facts) -> str | None:
    """Why this member may not take the lease, in one sentence; None if it may."""
    r = f.record
    if r.init != "initialized":
        return "the cluster is not initialized"
    if f.data.data is not Data.READY:
        return f"the data directory is {f.data.data.value} {f.data.why}".strip()
    if f.data.system_id != r.system_id:
        return "the data directory is of another cluster"
    if not r.votes(f.me, f.data.directory_id):
        return "this data directory was never seen caught up (it is not a voter)"
    if f.run.run not in (Run.STANDBY, Run.STARTING, Run.RECOVERING, Run.STOPPED):
        return f"PostgreSQL is {f.run.run.value}"
    if f.run.start_failures >= 3:
        return "PostgreSQL does not start"
    if not f.healthy:
        return f.unhealthy_why
    if f.leaving:
        return "this pod ends"
    if f.promised > 0:
        return "a promise to the holder still runs"
    if f.data.branch is Branch.DIVERGED and waiver.mine(f) is None:
        return "its history left the recorded one"
    if room.none(f) and not room.needed(f):
        return "its disk has no room for two WAL segments"
    if f.run.run is Run.STOPPED and f.run.retry_in > 0:
        return "PostgreSQL did not start"
    return None


def _position(f: Facts) -> Position:
    mine = f.peers.get(f.me)
    return f.data.end or (mine.position if mine and mine.position else None) or Position(0, _ZERO)


def _rank(name: str, position: Position | None, last: str | None) -> tuple[int, int, bool, int]:
    where = position or Position(0, _ZERO)
    return (where.timeline, int(where.lsn), name == last, -ordinal(name))


def _lagging(f: Facts) -> str | None:
    """Point 15: an asynchronous standby that is too far behind what was known of the primary."""
    known = f.record.flushed
    if f.settings.synchronous or known is None or f.record.primary == f.me:
        return None
    mine = _position(f)
    if mine.timeline > known.timeline:
        return None
    lag = int(known.lsn) - int(mine.lsn)
    if lag > f.settings.maximum_lag:
        return f"it is {lag} bytes behind, more than maximumLagOnFailover {f.settings.maximum_lag}"
    return None


def _claim(f: Facts) -> Acquire:
    return Acquire(replace(f.record, term=f.record.term + 1))


def _own(f: Facts) -> Do | None:
    """A restarted container takes its own lease back at once (amendment 21)."""
    if f.holds or f.lease.claim is not Claim.OWN_DEAD or ineligible(f):
        return None
    return Do([_claim(f)])


def _successor(f: Facts) -> Do | None:
    release = f.record.release
    if f.holds or f.lease.claim is not Claim.RELEASED or release is None:
        return None
    if release.successor != f.me or ineligible(f):
        return None
    if f.run.run is not Run.STANDBY or f.record.end is None:
        return Do([_claim(f)])
    # The former primary has ended, and where: there is nothing to receive any more, and one write
    # takes the lease and states the intent.
    if f.data.end is None:
        return Do([Detach(f.record.term)])
    if why := proven(f):
        return Do([Acquire(intended(f, f.record.term + 1))], why)
    return Do([_claim(f)])


def better(f: Facts) -> list[Peer]:
    """Who should rather take the lease: more WAL, the last primary, the lower ordinal."""
    mine = _rank(f.me, _position(f), f.record.primary)
    return [
        p for p in f.peers.values()
        if p.name != f.me and p.age <= 3.0 and p.healthy and not p.leaving
        and p.data is Data.READY and f.record.votes(p.name, p.directory_id)
        and _rank(p.name, p.position, f.record.primary) > mine
    ]


def _stand(f: Facts) -> Do | None:
    if f.holds or f.lease.claim not in FREE or ineligible(f) is not None:
        return None
    release = f.record.release
    if (
        f.lease.claim is Claim.RELEASED and release is not None
        and release.successor not in (None, f.me) and f.lease.age < GRACE
    ):
        return Do([AskPeers()], f"{release.successor} is named", look_again_in=0.3)
    if f.curious_for < LISTEN and not _heard_all(f):
        return Do([AskPeers()], "the others are asked for their state", look_again_in=0.1)
    waived = waiver.mine(f) is not None  # a person has said that the rest is gone
    if not waived and (lag := _lagging(f)):
        return _refuse(f, lag, 1.0)
    if not waived and (why := _returning(f)):
        return Do([AskPeers()], why, look_again_in=0.3)
    rivals = better(f)
    if rivals and f.curious_for < PREFERENCE:
        return Do([AskPeers()], f"{rivals[0].name} has more", look_again_in=0.2)
    return Do([_claim(f)])


def _returning(f: Facts) -> str | None:
    """The last primary stopped in good order and has more than this member: it is waited for."""
    end, last = f.record.end, f.record.primary
    if f.settings.synchronous or end is None or last is None or last == f.me:
        return None
    if _position(f) >= end or last not in f.declared:
        return None
    if f.curious_for > 2 * f.settings.times.lease_duration:
        return None
    return f"{last} stopped at {end.lsn} and has more: it is waited for"


def _heard_all(f: Facts) -> bool:
    return bool(f.declared) and all(f.fresh(n, 1.0) is not None for n in f.others())


def _cannot(f: Facts) -> Do | None:
    if f.holds or f.lease.claim not in FREE:
        return None
    why = ineligible(f)
    return _refuse(f, why, 0.5) if why else None


def _refuse(f: Facts, why: str, look_again_in: float) -> Do:
    """Said on the pod, as an Event and by `pgha why` (law, point 15)."""
    sentence = f"no failover to {f.me}: {why}"
    said = Announce("Warning", "FailoverRefused", sentence)
    return Do([AskPeers(), said], sentence, look_again_in=look_again_in)


def _follow(f: Facts) -> Do | None:
    if f.run.receiving and f.holder_is_primary:
        return Do((), f"{f.lease.holder_pod}", look_again_in=5.0)
    return None


def _wait(f: Facts) -> Do:
    holder = f.lease.holder_pod or "nobody"
    return Do((), f.lease.why or f"the lease is {f.lease.claim.value}, {holder} holds it",
              look_again_in=1.0)


RULES = (
    Rule("own-lease", "The former process here is gone: its lease is taken back.", _own),
    Rule("successor", "The last holder named this member its successor.", _successor),
    Rule("stand", "The lease is free and this member is the best known.", _stand),
    Rule("no-failover", "The lease is free, but this member may not take it.", _cannot),
    Rule("follow", "This standby receives from the primary.", _follow),
    Rule("wait", "There is nothing to do until something changes.", _wait),
)
