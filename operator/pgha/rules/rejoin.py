"""Coming back: start read-only, follow the holder, rewind, or clone (law, points 10, 12, 13).

A directory is only given up for a copy that is complete (I8); a dirty one never starts.
"""

from __future__ import annotations

from pgha.actions import (
    Announce,
    AskForWal,
    AskPeers,
    Attach,
    CancelJob,
    Detach,
    LabelSelf,
    MarkDirty,
    StartJob,
    StartStandby,
    StopServer,
)
from pgha.facts import Branch, Claim, Data, Facts, Run
from pgha.rules import waiver
from pgha.rules.leaving import refuses_for
from pgha.rules.rule import Do, Rule

PATIENCE = 8.0  # seconds attached without receiving before the histories are compared anew
FOLLOWING = (Run.STANDBY, Run.RECOVERING)  # it can be told whom to follow
LONGEST = 60.0  # seconds; it grows to that, as each stop ends what a hot standby answers
TRIES = 3  # rewinds, or fruitless attachments, before more is asked than to try again


def _source(f: Facts) -> str | None:
    """The primary, once its post-promotion checkpoint is done (law, point 10)."""
    name = f.lease.holder_pod
    if name is None or not f.holder_is_primary:
        return None
    peer = f.fresh(name)
    if peer is None or peer.run is not Run.PRIMARY or peer.rewindable_term != f.record.term:
        return None
    return name


def _job_without_source(f: Facts) -> Do | None:
    if not f.job.running or f.job.kind == "initdb":
        return None
    if f.holds or not f.holder_is_primary:
        return Do([CancelJob()], "the primary it copies from is not the primary any more")
    return Do((), f.job.kind, look_again_in=2.0)


def _needs_copy(f: Facts) -> str | None:
    if f.holds or f.record.init != "initialized" or f.run.run is not Run.STOPPED:
        return None
    if f.data.data in (Data.EMPTY, Data.DIRTY, Data.INITIALIZING):
        return f.data.why or f.data.data.value
    return None


def _clone(f: Facts) -> Do | None:
    why = _needs_copy(f)
    if why is None or f.lease.claim not in (Claim.HELD,):
        return None
    if f.job.retry_in > 0:
        return Do((), f.job.failed or "after a failed copy", look_again_in=f.job.retry_in)
    source = _source(f)
    if source is None:
        return Do([AskPeers()], f"{why}; no primary to copy from yet", look_again_in=1.0)
    return Do([StartJob("clone", source)], f"{why}; from {source}")


def _rewind(f: Facts) -> Do | None:
    if f.holds or f.run.run is not Run.STOPPED or f.data.data is not Data.READY:
        return None
    if not f.holder_is_primary or f.data.branch not in (Branch.DIVERGED, Branch.AHEAD):
        return None
    if waiver.mine(f) is not None:
        return None  # a person chose this history
    if f.job.retry_in > 0:
        return Do((), f.job.failed or "after a failed rewind", look_again_in=f.job.retry_in)
    if f.job.kind == "rewind" and f.job.failures >= TRIES:
        return Do([MarkDirty(f"rewind failed {f.job.failures} times: {f.job.failed}")])
    source = _source(f)
    if source is None:
        return Do([AskPeers()], "no primary to rewind from yet", look_again_in=0.5)
    if f.data.timeline == f.record.timeline:
        # pg_rewind says that none is required where the timeline numbers are equal.
        return Do([MarkDirty("same timeline number, another history")])
    return Do([StartJob("rewind", source)], f"from {source}")


def _ask_for_wal(f: Facts) -> Do | None:
    """Attached in vain again and again. A directory is given up only where that is proven to be
    the matter of its WAL: a firewall, TLS, a password or a slot is no reason, as this one may be
    needed when the primary is lost."""
    if f.holds or f.run.run is not Run.STOPPED or f.data.data is not Data.READY:
        return None
    # After a rewind recovery begins before the fork, with WAL that the primary may have no more.
    need = f.data.end or f.data.lacks
    if f.run.fruitless < TRIES or need is None or f.lease.claim is not Claim.HELD:
        return None
    source, supply = _source(f), f.run.supply
    fits = f.data.branch in (Branch.SAME, Branch.BEHIND) or f.data.end is None
    if source is None or not fits:
        return None
    if supply.pending:
        return Do((), source, look_again_in=0.1)
    if (supply.term, supply.end) != (f.record.term, need) or (
        supply.attachment != f.run.fruitless
    ):
        asked = AskForWal(source, need, f.record.term, f.run.fruitless)
        return Do([asked], source, look_again_in=0.1)
    # What the agent is sent each time, through the same gates, PostgreSQL here cannot take.
    if supply.lacks or supply.sent >= TRIES:
        return Do([MarkDirty(supply.why)], supply.why)
    return None


def _start(f: Facts) -> Do | None:
    if f.holds or f.run.run is not Run.STOPPED or f.data.data is not Data.READY:
        return None
    if f.lease.claim is Claim.UNKNOWN and f.lease.why:
        return None
    if f.run.retry_in > 0:
        return Do((), "after a failed start", look_again_in=f.run.retry_in)
    if _mistaken(f):
        return Do((), "clients may still take it for the primary", look_again_in=0.2)
    return Do([StartStandby(waiver.timeline(f))])


def _mistaken(f: Facts) -> bool:
    """A pool that is let in read-only keeps that connection; one that is refused tries again."""
    if not f.settings.hot or not refuses_for(f):
        return False
    release = f.record.release
    next_one = f.lease.holder_pod if f.lease.claim is Claim.HELD else release and release.successor
    return next_one not in (None, f.me)


def _attach(f: Facts) -> Do | None:
    if f.holds or f.run.run not in FOLLOWING or not f.holder_is_primary:
        return None
    holder = f.lease.holder_pod
    if holder is None or holder == f.me or f.record.term < f.voted_term or f.still:
        return None
    if f.run.attached_to == holder and f.run.attached_term == f.record.term:
        return None
    return Do([Attach(holder, f.record.term)], f"{holder}, term {f.record.term}")


def _not_receiving(f: Facts) -> Do | None:
    """Attached in vain: stop, so that the exact end of WAL shows whether the history fits."""
    if f.holds or f.run.run not in FOLLOWING or f.run.receiving or not f.holder_is_primary:
        return None
    if f.run.attached_term != f.record.term:
        return None
    if f.run.attached_for < min(LONGEST, PATIENCE * max(1, f.run.fruitless - TRIES + 1)):
        return _said(f)
    source = _source(f)
    if source is None and f.lease.claim is not Claim.HELD:
        return None  # the lease is free: who takes it is the election's matter
    if source is None:
        return Do([AskPeers()], f"{f.lease.holder_pod} does not answer", look_again_in=1.0)
    return Do([StopServer("fast")], f.run.supply.why)


def _said(f: Facts) -> Do | None:
    supply = f.run.supply
    if f.lease.claim is not Claim.HELD or f.run.fruitless <= TRIES or (
        supply.term != f.record.term or not supply.why
    ):
        return None
    notice = Announce("Warning", "NotReceiving", f"{f.me} receives nothing: {supply.why}")
    return Do([notice], supply.why, look_again_in=2.0)


def _label(f: Facts) -> Do | None:
    """A replica says so itself once it is one; the label of a primary is the holder's to move."""
    own = f.pods.get(f.me)
    if f.holds or f.run.run is not Run.STANDBY or own is None or "labels" in f.pending:
        return None
    if own.role == "replica" or (own.role == "primary" and not f.run.receiving):
        return None
    return Do([LabelSelf("replica", f.record.term)])


def _detach_from_former(f: Facts) -> Do | None:
    """The holder changed: nothing more is acknowledged for the old one (amendment 2)."""
    if f.holds or f.run.run not in FOLLOWING or f.run.attached_to is None:
        return None
    if f.voted_term > f.run.attached_term and f.promised <= 0:
        return Do([Detach(f.voted_term)])
    return None


RULES = (
    Rule("copying", "A copy of the primary is being made.", _job_without_source),
    Rule("clone", "This member has no usable data and is cloned from the primary.", _clone),
    Rule("rewind", "This member's history left the primary's: it is rewound.", _rewind),
    Rule("ask-for-wal", "The primary is asked whether it has the WAL that is needed here.",
         _ask_for_wal),
    Rule("start", "PostgreSQL starts read-only.", _start),
    Rule("detach-from-former", "A vote was given to a newer term.", _detach_from_former),
    Rule("attach", "This standby follows the holder of the lease.", _attach),
    Rule("label-replica", "This standby is labelled a replica.", _label),
    Rule("not-receiving", "This standby is attached but receives nothing.", _not_receiving),
)
