"""From holding the lease to accepting writes: every step a rule (law, point 6; amendments 2-8).

Nothing here waits inside: each step is decided anew from the facts, so that a step that never
answers, a lease that ends or a pod that leaves is seen at the next wake-up.
"""

from __future__ import annotations

from dataclasses import replace

from pgha import quorum
from pgha.actions import (
    Acquire,
    Announce,
    AskPeers,
    AskVotes,
    Detach,
    MoveLabels,
    Promote,
    ReleaseLease,
    SetSyncNames,
    StopServer,
    WriteRecord,
)
from pgha.facts import Branch, Facts, Run
from pgha.lsn import History
from pgha.record import Promotion, Record
from pgha.rules import heard, room, waiver
from pgha.rules.leaving import switching
from pgha.rules.rule import Do, Rule


def sync_names(f: Facts) -> str:
    """synchronous_standby_names for the record as it stands, in place before the promotion."""
    return quorum.desired_names(
        f.record, f.me, f.declared, synchronous=f.settings.synchronous, strict=f.settings.strict,
        wanted=f.settings.min_sync_replicas,
    )


def _waits(f: Facts) -> Do | None:
    """It started when nobody was to be waited for, and the mode was changed since: what it is told
    now, its backends may learn only after the promotion."""
    if not f.holds or f.run.run is not Run.STANDBY or f.promoted or f.run.promoting:
        return None
    if f.run.waited or not sync_names(f):
        return None
    if f.run.waited is None:
        return Do((), "its checkpointer has not begun yet", look_again_in=0.02)
    return Do([StopServer("fast")], f"it is to wait for {sync_names(f)}")


def _detach(f: Facts) -> Do | None:
    if not f.holds or f.run.run is not Run.STANDBY or f.promoted or f.data.end is not None:
        return None
    assert f.tenure is not None
    return Do([Detach(f.tenure.term)])


def _before(f: Facts) -> bool:
    """The state in which votes are asked and judged."""
    return f.holds and f.run.run is Run.STANDBY and not f.promoted and f.data.end is not None


def _judging(f: Facts) -> bool:
    """And PostgreSQL is not being promoted yet: from then on nothing gives the lease away."""
    return _before(f) and not f.run.promoting


def _ask(f: Facts) -> Do | None:
    if not _judging(f) or f.votes.pending or heard.proven(f):
        return None
    assert f.tenure is not None
    others = f.record.voter_names - {f.me}
    if not others or f.votes.term == f.tenure.term and (
        len(heard.granted(f)) >= len(others) or f.votes.last_asked < 0.5
    ):
        return None
    if f.votes.term == f.tenure.term and _judge(f) is not None and heard.awaited(f) is None:
        return None
    return Do([AskVotes(f.tenure.term)])


def _judge(f: Facts) -> str | None:
    """May it be promoted? The reason, or None while not."""
    return heard.enough(f) or waiver.reason(f)


def _yield(f: Facts) -> Do | None:
    if not _judging(f):
        return None
    assert f.data.end is not None
    passed_over = room.passed_over(f)
    better = [v for v in heard.granted(f) if v.name not in passed_over and heard.rather(f, v)]
    if not better:
        return None
    if f.votes.pending and not any(v.healthy for v in better):
        return Do((), f"{better[0].name} has more WAL but is ill: are the others enough?",
                  look_again_in=0.1)
    best = max(better, key=lambda v: (v.position or f.data.end, v.name))
    if room.undecided(f, best.name):
        ask = [] if f.votes.pending or f.votes.last_asked < 0.5 else [AskVotes(f.votes.term)]
        why = f"{best.name} has more WAL, but has it room, and are there enough others?"
        return Do([AskPeers(), *ask], why, look_again_in=0.1)
    return Do([ReleaseLease(best.name)], f"{best.name} has more WAL, {best.position}")


def _open_intent(f: Facts) -> Do | None:
    intent = f.record.open_intent
    if not _before(f) or intent is None or (owner := heard.awaited(f)) is None:
        return None
    return Do((), f"{owner} may have promoted to timeline {intent.number}", look_again_in=0.3)


def _quorum_missing(f: Facts) -> Do | None:
    if not _judging(f) or _judge(f) is not None:
        return None
    assert f.tenure is not None
    silent = sorted(
        n for n in f.record.voter_names - {f.me} if not heard.answered(f, n)
    )
    left = sorted({v.name for v in heard.granted(f)} - set(heard.names(f)))
    named = waiver.valid(f)
    if named is not None and named.member != f.me and any(
        v.name == named.member and v.branch is not Branch.DIVERGED for v in heard.granted(f)
    ):
        return Do([ReleaseLease(named.member)], f"{named.member} is named by a person's waiver")
    why = heard.astray(f) or f"not heard: {', '.join(silent) or 'nobody'}"
    if left:
        why += (f"; {', '.join(left)} left the recorded history and may have more of it than "
                f"{f.me}, which has not reached timeline {f.record.timeline}")
    if f.record.degraded:
        why = (f"only {f.record.primary} is known to have every acknowledged commit "
               "(the cluster had become asynchronous)")
    if f.tenure.since > f.settings.times.lease_duration and waiver.mine(f) is None:
        return Do(
            [
                Announce("Warning", "PromotionRefused", f"{f.me} is not promoted: {why}"),
                ReleaseLease(),
            ],
            why,
        )
    return Do((), why, look_again_in=0.2)


def _refused_branch(f: Facts) -> Do | None:
    if not _judging(f):
        return None
    if f.data.branch is Branch.DIVERGED and waiver.mine(f) is None:
        return Do([ReleaseLease()], f"timeline {f.data.timeline} is not of the recorded history")
    return None


def _no_room(f: Facts) -> Do | None:
    return room.wait(f) if _before(f) else None


def _keep_timeline(f: Facts) -> Do | None:
    """PostgreSQL names the latest timeline that it knows as the parent of the new one, also where
    its own WAL ends before that one began: others would take what is on neither for theirs."""
    if not _judging(f) or not f.data.overtaken:
        return None
    if f.run.stays_on == f.data.timeline:
        return None
    return Do([StopServer("fast")], f"timeline {f.data.timeline} ends at {f.data.end}")


def _intent_spent(f: Facts) -> Do | None:
    """PostgreSQL was promoted and died before that was on the record: a number is used once. It
    is from its history file on, before anything is written on that timeline: PostgreSQL would
    take the number after it."""
    p = f.record.promotion
    if not _before(f) or p is None or f.tenure is None or p.done:
        return None
    if p.term != f.tenure.term or p.promoter != f.incarnation or _newest(f) < p.number:
        return None
    again = replace(_adopted(f), term=f.record.term + 1)
    return Do([Acquire(again)], f"timeline {p.number}")


def _newest(f: Facts) -> int:
    return max(f.data.timeline, f.data.newest)


def _adopted(f: Facts) -> Record:
    """The record with the branch that an open intent began, where this directory is on it.

    That promotion did happen: its number and fork are history from now on (amendment 8).
    """
    intent = f.record.open_intent
    if f.data.branch is Branch.AHEAD and intent is not None and intent.number == f.data.timeline:
        return replace(f.record, timeline=f.data.timeline, history=f.data.history)
    return f.record


def _intent(f: Facts) -> Do | None:
    if not _before(f):
        return None
    assert f.tenure is not None
    p = f.record.promotion
    if p is not None and p.term == f.tenure.term and p.promoter == f.incarnation:
        return None
    if f.tenure.left < f.settings.times.retry_period:
        return Do((), "too little of the lease is left", look_again_in=0.2)
    record, why = intended(f, f.tenure.term), _judge(f) or ""
    if heard.enough(f) is None and (used := waiver.use(f, record, heard.names(f))):
        return Do([WriteRecord(used[0]), used[1]], f"{why}: {used[1].sentence}")
    return Do([WriteRecord(record)], why)


def intended(f: Facts, term: int) -> Record:
    """The record with the intent to promote this member in `term`."""
    number = max(f.record.highest_number, _newest(f)) + 1
    return replace(
        _adopted(f),
        term=term,
        promotion=Promotion(term, number, f.incarnation),
        highest_number=number,
        release=None,
    )


def _promote(f: Facts) -> Do | None:
    if not _before(f):
        return None
    p = f.record.promotion
    assert p is not None
    return Do([SetSyncNames(sync_names(f)), Promote(p.number)], f"timeline {p.number}")


def _complete(f: Facts) -> Do | None:
    if not f.holds or f.promoted or f.run.run is not Run.PRIMARY:
        return None
    assert f.tenure is not None
    p = f.record.promotion
    if p is None or p.term != f.tenure.term or p.promoter != f.incarnation:
        return None
    if f.run.timeline < p.number:
        return Do((), f"timeline {f.run.timeline}, not yet {p.number}", look_again_in=0.02)
    # What PostgreSQL did is completed (amendment 8): it takes commits, and a later number than
    # the intended one is unused too, as the intended one was above all on the record.
    number = f.run.timeline
    record = replace(
        f.record,
        promotion=replace(p, done=True, early=f.settings.early),
        timeline=number,
        highest_number=max(f.record.highest_number, number),
        history=f.data.history if f.data.timeline == number else History(),
        primary=f.me,
        primary_directory=f.data.directory_id,
        end=None,
        flushed=None,
        switched=f.request.id if f.request and switching(f) else f.record.switched,
    )
    if f.data.directory_id is not None:
        record = record.with_voter(f.me, f.data.directory_id)
    if f.me not in f.pods:
        return Do([WriteRecord(record)])
    # The labels in the same breath: an action after one that failed is not performed.
    stale = tuple(n for n, p in f.pods.items() if n != f.me and p.role == "primary")
    # Who gave the lease back with the end of its WAL is there, and refuses connections at once.
    silent = f.record.end is None
    return Do([WriteRecord(record), MoveLabels(f.me, stale, f.tenure.term, silent)])


RULES = (
    Rule("start-to-wait", "PostgreSQL starts anew so that its first commits wait for standbys.",
         _waits),
    Rule("detach", "The holder stops receiving, so that its own position is exact.", _detach),
    Rule("refused-branch", "The holder's history is not the recorded one.", _refused_branch),
    Rule("ask-votes", "The holder asks the voters to stop receiving and show their WAL.", _ask),
    Rule("yield", "A voter has more WAL, so the lease goes to it.", _yield),
    Rule("open-intent", "An earlier promotion may have happened: its owner is waited for.",
         _open_intent),
    Rule("quorum-missing", "Too few voters are heard to know every acknowledged commit.",
         _quorum_missing),
    Rule("no-room", "The disk of the holder has no room for a promotion.", _no_room),
    Rule(
        "keep-timeline",
        "A later timeline is known and was not reached: PostgreSQL starts anew to stay on its own.",
        _keep_timeline,
    ),
    Rule(
        "intent-spent",
        "This promotion happened and was lost before its completion: a new term begins.",
        _intent_spent,
    ),
    Rule("intent", "The promotion is put on the record before it happens.", _intent),
    Rule("promote", "PostgreSQL is promoted.", _promote),
    Rule("complete", "The promotion happened and is put on the record.", _complete),
)
