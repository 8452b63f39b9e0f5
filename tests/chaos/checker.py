"""The invariants over a finished history (docs/safety.md). Pure: a history in, sentences out.

What it cannot see: writes that no client of the history made, and of I8 the order of copies on
disk, which the simulation checks. It must not cry wolf either, so every rule says why what it
finds cannot happen in a correct run; tests/chaos/test_checker.py shows it histories with known
anomalies, one a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.history import History, Op

# Two labels are two objects: they cannot be moved in one write, only at the same time.
LABEL_OVERLAP_SECONDS = 1.0


@dataclass(frozen=True)
class Bounds:
    """What a nemesis may cost. `outage`: seconds without an acknowledged write (I7).

    `may_lose`: in Asynchronous mode acknowledged commits may be lost by it (I2).
    `labels`: seconds for which it puts a wrong label itself.
    `keeps`: it is no reason to give a data directory up (I8): none is rewound or cloned.
    """

    outage: float
    may_lose: bool = False
    labels: float = LABEL_OVERLAP_SECONDS
    keeps: bool = False


@dataclass(frozen=True)
class Violation:
    invariant: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}"


def check(history: History, bounds: Bounds) -> list[Violation]:
    """Every broken invariant, with what broke it."""
    return [
        *one_writable_server(history),
        *nothing_lost(history, bounds),
        *nothing_on_the_old_timeline(history),
        *timelines_grow(history),
        *one_primary_by_label(history, bounds),
        *redundancy_came_back(history),
        *writes_came_back(history, bounds),
        *directories_stay(history, bounds),
    ]


def one_writable_server(history: History) -> Iterator[Violation]:
    """I1. A write that began after a newer timeline had acknowledged one was accepted by a server
    that was not alone any more."""
    acks = sorted(history.acknowledged(), key=lambda op: op.end)
    by_timeline: dict[int, float] = {}
    for op in acks:
        by_timeline.setdefault(op.timeline, op.end)
    for op in acks:
        for timeline, at in by_timeline.items():
            if timeline > op.timeline and op.start > at:
                yield Violation(
                    "I1",
                    f"write {op.id} began at {op.start:.3f} and was acknowledged on timeline "
                    f"{op.timeline} by {op.server}, after timeline {timeline} had acknowledged one "
                    f"at {at:.3f}",
                )
                return
    servers: dict[int, set[str]] = {}
    for op in acks:
        servers.setdefault(op.timeline, set()).add(op.server)
    for timeline, names in servers.items():
        if len(names) > 1:
            yield Violation("I1", f"timeline {timeline} was written by {sorted(names)}")


def nothing_lost(history: History, bounds: Bounds) -> Iterator[Violation]:
    """I2. In Synchronous mode no acknowledged commit is ever missing; in Asynchronous mode none
    is where the fault leaves the disk, or was planned."""
    gone = lost(history)
    if gone and (history.synchronous or not bounds.may_lose):
        yield Violation(
            "I2",
            f"{len(gone)} acknowledged commits are missing, the first is {gone[0].kind} "
            f"{gone[0].id}, acknowledged at {gone[0].end:.3f} by {gone[0].server}",
        )
    for kind, items in (("row", history.rows), *_lists(history)):
        twice = [item for item, count in Counter(items).items() if count > 1]
        if twice:
            yield Violation("I2", f"{kind} has {twice[:5]} more than once")
    if history.synchronous:
        yield from _order_of_appends(history)


def _lists(history: History) -> list[tuple[str, list[int]]]:
    return [(f"list {key}", items) for key, items in sorted(history.lists.items())]


def lost(history: History) -> list[Op]:
    """The acknowledged operations that the database does not have at the end."""
    rows = set(history.rows)
    lists = {key: set(items) for key, items in history.lists.items()}
    return [
        op
        for op in history.acknowledged()
        if (op.id not in rows if op.kind == "insert" else op.id not in lists.get(op.key, ()))
    ]


def _order_of_appends(history: History) -> Iterator[Violation]:
    """List-append: what each append saw proves the order of all. Any list seen is a beginning of
    the final one, and an append that was acknowledged before another began comes before it."""
    for key, final in history.lists.items():
        appends = sorted(
            (op for op in history.acknowledged("append") if op.key == key), key=lambda op: op.start
        )
        for op in appends:
            if list(op.seen) != final[: len(op.seen)]:
                yield Violation(
                    "I2",
                    f"append {op.id} saw {list(op.seen)[-5:]} at the end of list {key}, which is "
                    f"no beginning of the final {final[:len(op.seen)][-5:]}",
                )
                return
            if not op.seen or op.seen[-1] != op.id:
                yield Violation("I2", f"append {op.id} did not see itself last in list {key}")
                return
        place = {item: index for index, item in enumerate(final)}
        done = sorted(appends, key=lambda op: op.end)
        reached, latest = 0, -1
        for op in appends:
            while reached < len(done) and done[reached].end < op.start:
                latest = max(latest, place.get(done[reached].id, -1))
                reached += 1
            if place.get(op.id, latest) < latest:
                yield Violation(
                    "I2",
                    f"append {op.id} stands before {final[latest]} in list {key}, which was "
                    "acknowledged before it began",
                )
                return


def nothing_on_the_old_timeline(history: History) -> Iterator[Violation]:
    """I3. The watch shows an acquisition after it happened, so a write that began later still and
    was acknowledged on an older timeline was accepted by a former holder."""
    acquired: dict[int, float] = {}
    for lease in history.leases:
        if lease.number:
            # The term's first sight, though its timeline is known only from the intent on.
            first = min(o.at for o in history.leases if o.term >= lease.promotion_term)
            acquired.setdefault(lease.number, first)
    for op in history.acknowledged():
        for number, at in acquired.items():
            if op.timeline < number and op.start > at:
                yield Violation(
                    "I3",
                    f"write {op.id} began at {op.start:.3f} on timeline {op.timeline}, after the "
                    f"holder of timeline {number} had the lease at {at:.3f}",
                )
                return


def timelines_grow(history: History) -> Iterator[Violation]:
    """I4. The recorded timeline and the term only grow, and a term promotes once."""
    term = timeline = 0
    promoted: dict[int, tuple[int, str | None]] = {}
    for lease in history.leases:
        if lease.term == 0 and lease.holder is None:
            continue  # a Lease that was deleted, before its record was rebuilt
        if lease.term < term or lease.timeline < timeline:
            yield Violation(
                "I4",
                f"the record went from term {term}, timeline {timeline} back to term "
                f"{lease.term}, timeline {lease.timeline}",
            )
            return
        term, timeline = lease.term, lease.timeline
        if lease.number and lease.promoter:
            key = lease.promotion_term
            known = promoted.setdefault(key, (lease.number, lease.promoter))
            if known != (lease.number, lease.promoter):
                yield Violation(
                    "I4", f"term {key} promoted {known} and {(lease.number, lease.promoter)}"
                )
                return
    numbers = [number for number, _ in promoted.values()]
    twice = [number for number, count in Counter(numbers).items() if count > 1]
    if twice:
        yield Violation("I4", f"timeline numbers {twice} were used by more than one term")


def promotions(history: History) -> int:
    """How many timelines were begun in this history."""
    numbers = {lease.number for lease in history.leases if lease.number and lease.done}
    return max(0, len(numbers) - 1)


def label_overlap(history: History) -> float:
    """The longest time in seconds for which more than one pod bore role=primary."""
    longest, since = 0.0, None
    for roles in history.roles:
        if len(roles.primaries) > 1:
            since = roles.at if since is None else since
        elif since is not None:
            longest, since = max(longest, roles.at - since), None
    if since is not None:
        longest = max(longest, history.ended - since)
    return longest


def one_primary_by_label(history: History, bounds: Bounds) -> Iterator[Violation]:
    """I5. At most one pod bears role=primary, but for the moment in which the labels move."""
    seconds = label_overlap(history)
    if seconds > max(bounds.labels, LABEL_OVERLAP_SECONDS):
        yield Violation("I5", f"two pods were labelled primary for {seconds:.2f} s")


def redundancy_came_back(history: History) -> Iterator[Violation]:
    """I6. Every member came back to streaming by itself."""
    if not history.redundant:
        yield Violation("I6", "not every member came back to streaming")


def outage(history: History) -> float:
    """The longest gap in seconds between two acknowledged writes on fresh connections, from the
    last one before the strike on."""
    acks = sorted(op.end for op in history.acknowledged() if op.client == "fresh")
    before = [at for at in acks if at <= history.struck]
    times = [*before[-1:], *(at for at in acks if at > history.struck), history.ended]
    if not before:
        times.insert(0, history.struck)
    return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)


def writes_came_back(history: History, bounds: Bounds) -> Iterator[Violation]:
    """I7. Writes were away no longer than the fault's bound."""
    seconds = outage(history)
    if seconds > bounds.outage:
        yield Violation("I7", f"no write for {seconds:.1f} s, the bound is {bounds.outage:.0f} s")


def directories_stay(history: History, bounds: Bounds) -> Iterator[Violation]:
    """I8. A copy has an id of its own, and the record names the id of each voter."""
    known: dict[str, str] = {}
    for lease in history.leases if bounds.keeps else ():
        for name, directory in lease.voters.items():
            if known.setdefault(name, directory) != directory:
                yield Violation(
                    "I8", f"{name} gave its data directory {known[name]} up for {directory}"
                )
                return
