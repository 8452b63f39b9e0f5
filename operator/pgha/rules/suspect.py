"""A primary that is suspected, and the lease that may be taken early because of it.

Only with `quorumFailover` in Synchronous mode; docs/decisions/quorum-failover.md says why it is
safe. What is decided here - whom to suspect, when to ask - is not what safety rests on: that is
`quorum.silenced`, the compare-and-swap, and the votes that are collected anew afterwards.
"""

from __future__ import annotations

from dataclasses import replace

from pgha import quorum
from pgha.actions import AskEarlyVotes, AskPeers
from pgha.facts import Claim, Facts, LeaseView, Votes
from pgha.rules.election import PREFERENCE, better, ineligible
from pgha.rules.rejoin import FOLLOWING, PATIENCE
from pgha.rules.rule import Do, Rule
from pgha.settings import Settings

SUSPECT_AFTER = 3.0  # seconds without a sign of the primary on the replication connection
DOUBT_AFTER = 1.5  # seconds without one after which its agent is asked too
UNANSWERED = 2.0  # seconds since the agent's last answer: a whole round of questions has failed
ROUND = 1.1  # seconds that one round of questions may take
ASK_AGAIN = 0.5  # seconds between two requests for early votes


def claim(
    lease: LeaseView, settings: Settings, mine: tuple[str, str | None], still: bool, early: Votes
) -> LeaseView:
    """The view of the Lease with the early votes taken in: HELD becomes SUSPECT.

    `mine`: the own name and directory, which count while the own early vote stands (`still`).
    """
    if (
        not settings.early
        or lease.claim is not Claim.HELD
        or not still
        or early.version != lease.version
        or not quorum.replaceable(lease.record, lease.holder)
    ):
        return lease
    given = [(v.name, v.directory_id) for v in early.answers.values() if v.granted]
    if not quorum.silenced(lease.record, lease.holder_pod, [mine, *given]):
        return lease
    return replace(lease, claim=Claim.SUSPECT)


def _answers(f: Facts) -> bool:
    """Does the holder's agent answer? Another pod under its name is not the holder."""
    agent = f.peers.get(f.lease.holder_pod or "")
    return agent is not None and agent.age < UNANSWERED and f"/{agent.uid}/" in (
        f.lease.holder or ""
    )


def objection(f: Facts) -> str | None:
    """Why this member does not suspect the primary; None if it does."""
    if not f.settings.early:
        return "quorumFailover is off here"
    holder = f.lease.holder_pod
    if f.lease.claim not in (Claim.HELD, Claim.SUSPECT) or not f.holder_is_primary:
        return "it knows of no primary to suspect"
    if not quorum.replaceable(f.record, f.lease.holder):
        return f"the record does not let {holder} be replaced early"
    if f.run.silent is None:
        return f"it has not heard {holder} in this term"
    if f.run.silent < SUSPECT_AFTER:
        return f"it heard {holder} {f.run.silent:.1f} s ago"
    if _answers(f):
        return f"{holder}'s agent answers"
    if f.curious_for < ROUND:
        return f"{holder}'s agent was asked only now"
    return None


def _too_few(f: Facts) -> str | None:
    """Why early votes are not asked for yet: nobody is to detach in vain."""
    holder = f.lease.holder_pod
    suspecting = [(f.me, f.data.directory_id)]
    for name in sorted(f.record.voter_names - {f.me, holder}):
        peer = f.fresh(name)
        if peer is None:
            continue
        if peer.silent is None or peer.silent + peer.age < SUSPECT_AFTER:
            return f"{name} does not suspect {holder}"
        suspecting.append((name, peer.directory_id))
    if not quorum.silenced(f.record, holder, suspecting):
        return f"{len(suspecting)} voters suspect {holder}, {f.record.read_quorum} are needed"
    return None


def _suspect(f: Facts) -> Do | None:
    if f.lease.claim is not Claim.HELD or not f.holder_is_primary:
        return None
    if not f.settings.early:
        return None
    if f.run.silent is None or f.run.silent < DOUBT_AFTER or f.voted_term > f.record.term:
        return None
    if f.run.run not in FOLLOWING or (f.run.attached_to is None and not f.still):
        return None  # it follows first: an early vote that is over was about an older Lease
    if not quorum.replaceable(f.record, f.lease.holder):
        return None  # not even everybody would be enough
    if _answers(f) and f.run.attached_for >= PATIENCE:
        return None  # it lives: why nothing is received is the matter of `not-receiving`
    if why := objection(f) or ineligible(f) or _too_few(f):
        return Do([AskPeers()], why, look_again_in=0.25)
    rivals = better(f)
    if rivals and f.curious_for < PREFERENCE:
        return Do([AskPeers()], f"{rivals[0].name} has more", look_again_in=0.2)
    if f.early.version == f.lease.version and (
        f.early.pending or f.early.last_asked < ASK_AGAIN
    ):
        return Do([AskPeers()], "early votes are asked for", look_again_in=0.1)
    return Do([AskEarlyVotes(f.record.term, f.lease.version)], f"{f.lease.holder_pod} is silent")


RULES = (
    Rule(
        "suspect",
        "The primary is silent; the voters are asked to receive nothing more from it.",
        _suspect,
    ),
)
