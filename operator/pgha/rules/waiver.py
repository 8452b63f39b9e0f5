"""A person's waiver of the quorum: what it permits, to whom, and for how long (amendment 19).

It names one member, and the term of the promotion whose commits may be lost by it. So any later
promotion makes it void, and a primary that reigns refuses it: it is never armed in advance. It
takes no lease that is not free and passes over no voter that answers with more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pgha.actions import Announce
from pgha.facts import Branch, Facts, Waiver
from pgha.lsn import left_at
from pgha.record import Record, Waived

HEAR_WITHIN = 5.0  # seconds that the voters get to answer, the last time that anybody asks them


def valid(f: Facts) -> Waiver | None:
    """The waiver that counts now, whoever is named."""
    w, p, used = f.waiver, f.record.promotion, f.record.waived
    if w is None or p is None or w.id == f.record.waiver_refused:
        return None
    if w.term == p.term:
        return w
    # The promotion that it was used for was begun, and is not known to have happened.
    begun = used is not None and used.id == w.id and used.used == p.term and not p.done
    return w if begun else None


def mine(f: Facts) -> Waiver | None:
    """The waiver, if it names this member."""
    w = valid(f)
    return w if w is not None and w.member == f.me else None


def timeline(f: Facts) -> int:
    """The one to stay on, where a person chose a history that left the recorded one: PostgreSQL
    does not start on it while it looks for the latest, whose file may be here."""
    return f.data.timeline if f.data.branch is Branch.DIVERGED and mine(f) is not None else 0


def given_up(f: Facts, heard: Collection[str]) -> str:
    """What is lost, as far as it can be known."""
    gone = [f"what only {', '.join(_missing(f, heard))} had"] if _missing(f, heard) else []
    if f.data.branch is Branch.DIVERGED:
        left = left_at(f.data.history, f.record.history, f.record.timeline)
        gone.append(f"timeline {f.record.timeline} " + (
            "with all that was written on it" if left is None else f"from {left} on"
        ))
    return " and ".join(gone) or "nothing that is known of"


def reason(f: Facts) -> str | None:
    """Why this member may be promoted without a quorum; None while it may not."""
    w, v = mine(f), f.votes
    if w is None or f.tenure is None or v.term != f.tenure.term:
        return None
    if v.pending or v.asked_for < HEAR_WITHIN:
        return None
    if f.tenure.since < f.settings.times.lease_duration:
        # However the lease was taken, whoever had it before has stopped by then; unless it lives on
        # promises without the API, which no agent can know: the person has to (docs/runbook.md).
        return None
    return f"a person waived the quorum of term {w.term}"


def use(f: Facts, intended: Record, heard: Collection[str]) -> tuple[Record, Announce] | None:
    """The record of the promotion with what is accepted as lost, and what people are told."""
    w = mine(f)
    if w is None:
        return None
    assert intended.promotion is not None
    waived = Waived(w.id, w.term, intended.promotion.term, f.me, _missing(f, heard))
    return replace(intended, waived=waived), Announce(
        "Warning", "QuorumWaived",
        f"{f.me} is promoted though a person has to answer for it: waived is the quorum of term "
        f"{w.term}, accepted as lost is {given_up(f, heard)}",
    )


def _missing(f: Facts, heard: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(f.record.voter_names - {f.me} - set(heard)))
