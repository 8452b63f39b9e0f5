"""A full disk: when the primary leaves it, and when it stays and says so (amendment 15).

A full disk is no reason to fail over: the standbys have the same data. But where one has every byte
and room beside it, a planned hand-over keeps writes going; PostgreSQL itself would end with PANIC
at the next WAL segment. Nothing is lost by either: both prove the end of WAL first.
"""

from __future__ import annotations

from pgha.actions import Announce, AskPeers, ReleaseLease
from pgha.facts import Branch, Data, Facts
from pgha.rules import heard
from pgha.rules.rule import Do
from pgha.settings import pod_of

SEGMENT = 16 * 1024 * 1024  # bytes of WAL
PROMOTION = 2 * SEGMENT  # bytes: it begins with a new one, and may make the next ahead
FULL = 2 * SEGMENT  # bytes that are free
PIECE = 1024 * 1024  # bytes; with less a checkpoint may end PostgreSQL, and does with none
ROOMY = 4 * FULL  # bytes that make it worth to move; far from FULL, so that nobody moves back
SETTLED = 60.0  # seconds between two such moves
KEPT = 5.0  # seconds; it comes back from one that does not hear enough others, but in no haste
ASK_WITHIN = 3.0  # seconds that a new holder hears the others before it gives the lease back
HEARD_WITHIN = 10.0  # seconds; a disk does not fill up by ROOMY meanwhile


def short(free_bytes: int | None) -> bool:
    return free_bytes is not None and free_bytes < FULL


def full(f: Facts) -> bool:
    return short(f.free_bytes)


def none(f: Facts) -> bool:
    """PostgreSQL runs as a standby with hardly a byte free, but it cannot be promoted."""
    return f.free_bytes is not None and f.free_bytes < PROMOTION


def last(f: Facts) -> bool:
    """Is this the directory of the last primary?"""
    return f.record.led_by(f.me, f.data.directory_id)


def needed(f: Facts) -> bool:
    """Must this member take the lease without room? Nobody else may have all that it has."""
    release, intent = f.record.release, f.record.open_intent
    named = release is not None and release.successor == f.me  # by a holder that had less
    begun = (
        intent is not None and pod_of(intent.promoter) == f.me
        and f.data.timeline >= intent.number
    )  # fmt: skip
    return named or (last(f) or begun) and enough_beside(f) is None


def enough_beside(f: Facts) -> str | None:
    """Whom this member, without room, may leave the lease to though it has more WAL itself. None
    in Asynchronous mode, and while no quorum is there without it.

    An acknowledged commit is in W + 1 of the voters' directories, and R + W + 1 > |V|: any R voters
    have every one among them (docs/decisions/quorum.md), and the one with the most WAL of those R
    has each. So R voters beside this member are enough, and what it has more than they was
    acknowledged to nobody. Whether it is so is decided by the successor's own votes.
    """
    r = f.record
    if not r.quorum_knows:
        return None
    fit = []
    for name in r.voter_names - {f.me}:
        peer = f.fresh(name, HEARD_WITHIN)
        if (
            peer is not None and peer.position is not None and peer.data is Data.READY
            and r.votes(name, peer.directory_id) and peer.healthy and not peer.leaving
            and roomy(f, name)
        ):  # fmt: skip
            fit.append((peer.position, name))
    return max(fit)[1] if len(fit) >= r.read_quorum else None


def passed_over(f: Facts) -> frozenset[str]:
    """The voters that need not get the lease, though they may have more WAL, as they have no room
    and those that were heard beside them are R: see `enough_beside`."""
    r = f.record
    if not r.quorum_knows or none(f) or f.data.branch is Branch.DIVERGED:
        return frozenset()
    fit = {v.name for v in heard.granted(f) if v.branch is not Branch.DIVERGED}
    crowded = frozenset(n for n in fit if _crowded(f, n))
    own = r.votes(f.me, f.data.directory_id)
    return crowded if len(fit - crowded) + own >= r.read_quorum else frozenset()


def _crowded(f: Facts, name: str) -> bool:
    peer = f.fresh(name, HEARD_WITHIN)
    return peer is not None and peer.free_bytes is not None and peer.free_bytes < PROMOTION


def undecided(f: Facts, name: str) -> bool:
    """That voter has more WAL. Are there still to be heard how much room it has, or the others
    without whom it is not passed over? Or it would get the lease and give it back."""
    return (
        f.record.quorum_knows and not none(f)
        and f.tenure is not None and f.tenure.since < ASK_WITHIN
        and (f.fresh(name, HEARD_WITHIN) is None or _crowded(f, name))
    )


def wait(f: Facts) -> Do | None:
    """The holder's, before it is promoted. It keeps the lease, and with it what nobody else may
    have, until there is room here or beside a copy of all of it.

    The room that a promotion under way takes is its own segment's.
    """
    if not none(f) or f.run.promoting:
        return None
    notice = said(f, "there is no room for two WAL segments, so it is not promoted")
    if name := _elsewhere(f):
        return Do([notice, ReleaseLease(name)], f"{notice.sentence}; {name} has all of it and room")
    kept = f.tenure is not None and f.tenure.since >= KEPT
    if kept and (name := enough_beside(f)):
        why = f"{name} and others have every acknowledged commit, and room"
        return Do([notice, ReleaseLease(name)], f"{notice.sentence}; {why}")
    return Do([AskPeers(), notice], notice.sentence, look_again_in=2.0)


def _elsewhere(f: Facts) -> str | None:
    """Who has every byte of this member and more room. It hears the voters itself."""
    for name in sorted(f.record.voter_names - {f.me}):
        peer = f.fresh(name, HEARD_WITHIN)
        if (
            peer is not None and peer.position is not None and f.data.end is not None
            and f.record.votes(name, peer.directory_id) and roomy(f, name)
            and peer.healthy and not peer.leaving
            and peer.position.timeline == f.data.end.timeline and peer.position >= f.data.end
        ):  # fmt: skip
            return name
    return None


def moving(f: Facts) -> bool:
    """Is leaving the disk a reason to hand over? Not again and again: a move is an outage too."""
    return full(f) and f.tenure is not None and f.tenure.since >= SETTLED


def roomy(f: Facts, name: str) -> bool:
    peer = f.fresh(name, HEARD_WITHIN)
    return peer is not None and peer.free_bytes is not None and peer.free_bytes >= ROOMY


def checkpoints(f: Facts) -> bool:
    """May a checkpoint come first? Where it is PANIC it is better under no load: at the fast stop,
    which ends the sessions before, so that the standby has every byte."""
    return f.free_bytes is None or f.free_bytes >= PIECE


def refuges(f: Facts, candidates: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the candidates that have every byte, as far as a running primary knows, and room."""
    if not moving(f):
        return ()
    caught_up = {s.name for s in f.replication.senders if s.caught_up}
    return tuple(n for n in candidates if n in caught_up and roomy(f, n))


def said(f: Facts, what: str) -> Announce:
    return Announce("Warning", "DiskFull", f"the disk of {f.me} is full: {what}")
