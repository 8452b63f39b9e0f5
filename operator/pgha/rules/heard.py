"""Whose word counts before a promotion, and whether it is enough (law, points 6 and 7).

Pure judgement of the votes of this tenure; what follows from it are the rules of promotion.py.
"""

from __future__ import annotations

from pgha.facts import Branch, Facts, Vote
from pgha.lsn import Position, left_at
from pgha.settings import pod_of

HEAR_WITHIN = 2.0  # seconds that an asynchronous promotion waits for voters that do not answer
INTENT_WAIT = 5.0  # seconds that the owner of an open intent gets to answer (amendment 8); an
# asynchronous cluster has no quorum to fall back on, and waits a lease duration


def granted(f: Facts) -> list[Vote]:
    """The votes that this tenure's question got, of directories that are voters."""
    if f.tenure is None or f.votes.term != f.tenure.term:
        return []
    return [
        v for v in f.votes.answers.values()
        if v.granted and f.record.votes(v.name, v.directory_id)
    ]


def counted(f: Facts) -> list[Vote]:
    """The answers that count as heard: whoever has an acknowledged commit that is missing here
    shows it by its position, and is then yielded to.

    A member whose history left the recorded one may share more of it than one that has not come
    to the recorded timeline, and its position cannot tell how much. Against a member that is on
    that timeline it can hold nothing: it acknowledged nothing there.
    """
    if f.data.branch is Branch.BEHIND:
        return [v for v in granted(f) if v.branch is not Branch.DIVERGED]
    return granted(f)


def names(f: Facts) -> list[str]:
    return [v.name for v in counted(f)]


def answered(f: Facts, name: str) -> bool:
    return any(v.name == name for v in granted(f))


def proven(f: Facts) -> str | None:
    """Why no quorum is needed: amendment 21, and the primary's own directory."""
    r, intent = f.record, f.record.open_intent
    # Somebody else may have been promoted after that end was written, and have taken commits.
    settled = intent is None or pod_of(intent.promoter) == f.me
    if settled and r.end is not None and f.data.end is not None and f.data.branch in (
        Branch.SAME, Branch.BEHIND
    ) and f.data.end >= r.end:
        return f"has the proven end of the last primary, {r.end.lsn}"
    if settled and r.led_by(f.me, f.data.directory_id):
        return "is the last primary's own directory"
    return None


def astray(f: Facts) -> str | None:
    """A voter that left the recorded timeline beyond where this member ends: it may have commits
    that nobody else has, it cannot be promoted, and to promote another would have it rewound."""
    assert f.data.end is not None
    for v in granted(f):
        if v.left_at is not None and Position(f.record.timeline, v.left_at) > f.data.end:
            return f"{v.name} has more WAL, up to {v.left_at}, where it left the recorded history"
    return None


def enough(f: Facts) -> str | None:
    """Why this member may be promoted by what was heard; None while it may not."""
    if f.data.branch is Branch.DIVERGED:
        return None
    heard = len(counted(f)) + (1 if f.record.votes(f.me, f.data.directory_id) else 0)
    voters = f.record.voter_names
    if proof := proven(f):
        return proof
    if f.record.degraded or astray(f):
        return None
    if f.settings.synchronous or f.record.write_quorum > 0:
        if heard < f.record.read_quorum:
            return None
        return f"{heard} of {len(voters)} voters heard, {f.record.read_quorum} needed"
    if heard >= len(voters) or (f.votes.asked_for > HEAR_WITHIN and not f.votes.pending):
        return f"{heard} of {len(voters)} members heard"
    return None


def rather(f: Facts, v: Vote) -> bool:
    """Is it for this voter to be promoted?"""
    assert f.data.end is not None
    if f.data.branch is Branch.DIVERGED and v.branch in (Branch.SAME, Branch.BEHIND):
        left = left_at(f.data.history, f.record.history, f.record.timeline)
        return left is None or v.position is None or (
            v.position > Position(f.record.timeline, left)
        )
    if v.position is None or v.position <= f.data.end or v.branch is Branch.DIVERGED:
        return False
    return v.healthy or _counts(f)


def _counts(f: Facts) -> bool:
    """May an acknowledged commit be in the WAL of an ill voter alone, of those that are heard?

    Not where enough others are heard to know every one (law, point 7): what the ill one has more
    was acknowledged to nobody. It takes no lease, so that yielding to it would be for ever.
    """
    fit = sum(v.healthy for v in counted(f)) + f.record.votes(f.me, f.data.directory_id)
    return f.record.write_quorum > 0 and (f.record.degraded or fit < f.record.read_quorum)


def awaited(f: Facts) -> str | None:
    """The owner of an open intent, while it has time to answer: it is asked again and again."""
    intent = f.record.open_intent
    if intent is None or f.tenure is None:
        return None
    owner = pod_of(intent.promoter)
    if owner is None or owner == f.me or owner not in f.record.voter_names or answered(f, owner):
        return None
    asynchronous = not f.settings.synchronous and not f.record.write_quorum
    wait = f.settings.times.lease_duration if asynchronous else INTENT_WAIT
    return owner if f.tenure.since < wait else None
