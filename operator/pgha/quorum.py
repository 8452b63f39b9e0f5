"""The quorum: who votes, how many acknowledge, and the safe order of every change.

The invariant, at every instant, also between the two writes of a change and when the second never
comes: with V the voters on the record (the holder's directory among them), R the read quorum on
the record and W the number of standbys that the server waits for,

    R + W + 1 > |V|

because a commit is in W + 1 directories of V (the holder's own flush counts) and R of V are heard
before a promotion, so the two sets meet. Hence, one write at a time (law, point 7; amendment 3):

    a voter more, or W lower:   the record first (R raised by as much), then the server
    a voter less, or W higher:  the server first, seen active, and W members of the new set have
                                flushed past a position read afterwards (the barrier); then
                                the record (R lowered)
    a directory in a voter's place: once it has flushed past a position that was read while it
                                streamed; before that its name counts for the server only, where
                                the record's R still asks for the directories of old
    asynchronous for a while (W = 0): first on the record as `degraded`: nobody but the present
                                holder is known to have everything; it ends behind the barrier

Pure: `plan` gives the next single step. `check` is the invariant, run by tests after each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pgha.record import Record
from pgha.settings import pod_of


@dataclass(frozen=True)
class Standing:
    """What the holder sees. `directories`: streaming members whose directory id is known."""

    me: str
    declared: tuple[str, ...]
    synchronous: bool
    strict: bool
    wanted: int  # minSyncReplicas
    told: str | None  # synchronous_standby_names as it was set last; None: nobody can say
    active: str | None  # as a new connection sees it, the former one perhaps; None: not known
    barrier: bool  # passed for `active`
    streaming: frozenset[str]
    directories: Mapping[str, str]
    caught_up: frozenset[str]
    missing_for: float  # seconds that fewer than W of them have been heard
    degrade_after: float  # seconds of that after which non-strict mode gives in


@dataclass(frozen=True)
class SetNames:
    value: str


@dataclass(frozen=True)
class Rewrite:
    record: Record
    why: str


Step = SetNames | Rewrite


def names_of(quorum: int, members: tuple[str, ...]) -> str:
    """`ANY n ("a","b")`; names that nobody bears where a strict cluster has no standby.

    Never empty while a quorum is asked for: an empty setting waits for nobody (amendment 18).
    """
    listed = ",".join(f'"{n}"' for n in members) or '"pgha-nobody"'
    return f"ANY {quorum} ({listed})"


def at_start(record: Record, synchronous: bool) -> str:
    """What a server starts with, before it is told whom to wait for.

    PostgreSQL begins to wait when its checkpointer has seen that there is anybody, and that is
    not bound in time on a reload. So a server that may have to wait as soon as it is promoted
    waits from its start, for nobody.
    """
    return names_of(1, ()) if synchronous or record.write_quorum > 0 else ""


def quorum_of(names: str) -> int:
    """W in a value of synchronous_standby_names that `names_of` made."""
    return int(names.split()[1]) if names.startswith("ANY ") else 0


def standbys(record: Record, me: str, declared: tuple[str, ...]) -> tuple[str, ...]:
    """S: the voters that are still declared, without the holder."""
    return tuple(sorted(n for n in record.voter_names if n != me and n in declared))


def desired_names(
    record: Record, me: str, declared: tuple[str, ...], *,
    synchronous: bool, strict: bool, wanted: int, back: bool = False,
) -> str:
    """What synchronous_standby_names has to be. `back`: enough standbys have caught up again."""
    s = standbys(record, me, declared)
    if not synchronous:
        # Leaving Synchronous mode lowers W: the record comes first.
        return names_of(record.write_quorum, s) if record.write_quorum else ""
    if strict:
        return names_of(max(wanted, record.write_quorum), s)
    if record.degraded and not back:
        return ""
    quorum = min(max(wanted, record.write_quorum), len(s))
    quorum = max(quorum, record.write_quorum)
    return names_of(quorum, s) if quorum else ""


def silenced(record: Record, holder: str | None, still: Iterable[tuple[str, str | None]]) -> bool:
    """Can `holder` acknowledge nothing any more, while these directories receive nothing?

    With R of the |V| - 1 voters beside it, |V| - 1 - R are left, and that is less than W
    (docs/decisions/quorum-failover.md).
    """
    if not record.quorum_knows:
        return False
    counted = {name for name, directory in still if record.votes(name, directory)} - {holder}
    return len(counted) >= record.read_quorum


def replaceable(record: Record, holder: str | None) -> bool:
    """May others take the lease of this incarnation before it ends, by early votes? Only from a
    primary that said so when it was promoted, and if they were enough once all of them agreed."""
    p = record.promotion
    if p is None or not (p.done and p.early) or (p.term, p.promoter) != (record.term, holder):
        return False
    return silenced(record, pod_of(holder), record.voters)


def promisers(record: Record, me: str) -> tuple[dict[str, str], int]:
    """Whose promises count for the holder `me`, by name and directory, and how many it needs
    (law, point 14; amendment 13): with fewer left, no read quorum is found to promote another."""
    others = {name: directory for name, directory in record.voters if name != me}
    if record.quorum_knows:
        return others, max(1, len(record.voters) - record.read_quorum)
    return others, len(others)


def plan(record: Record, seen: Standing) -> Step | None:
    """The next step towards what is declared, or None when nothing is to be done or proven."""
    r = record
    s = standbys(r, seen.me, seen.declared)
    target = min(seen.wanted, len(s)) if seen.synchronous else 0
    if seen.strict and seen.synchronous:
        target = seen.wanted
    # the record first: more voters, a lower W, a degradation
    if r.degraded and not seen.synchronous:
        return Rewrite(replace(r, degraded=False), "the cluster is asynchronous by choice")
    for name in sorted(seen.streaming):
        known = seen.directories.get(name)
        new = name in seen.declared and name not in r.voter_names and name in seen.caught_up
        if new and known:
            grown = r.with_voter(name, known)
            return Rewrite(replace(grown, read_quorum=r.read_quorum + 1), f"{name} votes")
    if r.write_quorum > target:
        lower = replace(r, write_quorum=target, read_quorum=len(r.voters) - target)
        return Rewrite(lower, f"{target} standbys acknowledge")
    can_degrade = seen.synchronous and not seen.strict and r.quorum_knows
    if can_degrade and seen.missing_for > seen.degrade_after:
        return Rewrite(replace(r, degraded=True), "asynchronous: too few standbys stream")
    # the server
    back = len(seen.caught_up & set(s)) >= max(r.write_quorum, 1)
    names = desired_names(
        r, seen.me, seen.declared, synchronous=seen.synchronous, strict=seen.strict,
        wanted=seen.wanted, back=back,
    )
    if seen.active is None:
        return None
    if seen.active != names or seen.told not in (None, names):
        return SetNames(names)
    # the record after the server
    for name, directory in r.voters:
        now = seen.directories.get(name)
        if now and now != directory and name in seen.caught_up and name != seen.me:
            return Rewrite(r.with_voter(name, now), f"{name} votes with its new directory")
    gone = sorted(n for n in r.voter_names if n not in seen.declared and n != seen.me)
    if gone and (not names or seen.barrier):
        less = r.without_voter(gone[0])
        quorum = quorum_of(names)
        if len(less.voters) - quorum >= 1 and (names or not seen.synchronous or r.degraded
                                               or r.write_quorum == 0):
            lowered = replace(less, read_quorum=max(1, len(less.voters) - r.write_quorum))
            return Rewrite(lowered, f"{gone[0]} is not declared any more")
    if names and seen.barrier:
        quorum = quorum_of(names)
        if r.degraded:
            return Rewrite(replace(r, degraded=False), "enough standbys have caught up")
        if quorum > r.write_quorum and quorum < len(r.voters):
            return Rewrite(
                replace(r, write_quorum=quorum, read_quorum=len(r.voters) - quorum),
                f"{quorum} standbys acknowledge each commit",
            )
    return None


def check(record: Record, server_quorum: int) -> None:
    """The invariant; `server_quorum` is the W that PostgreSQL waits for at this moment."""
    acknowledged = 0 if record.degraded else server_quorum
    if not record.degraded and record.read_quorum + acknowledged + 1 <= len(record.voters):
        raise AssertionError(
            f"R {record.read_quorum} + W {acknowledged} + 1 does not exceed |V| "
            f"{len(record.voters)}: a promotion could miss an acknowledged commit"
        )
