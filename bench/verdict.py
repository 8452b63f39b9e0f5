"""What the attempts of one trial say. Pure: owns the numbers of the tables, reads no clock.

The outage is the longest gap between two acknowledged inserts, whichever client they came from on
that way in. After the first new acknowledgement counting goes on: a dead member that is still an
endpoint makes fresh connections fail for long after (the tail).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.attempts import Attempt


@dataclass(frozen=True)
class Verdict:
    """One way in during one trial; times in seconds, `outage_began` on the probe's clock."""

    outage: float
    outage_began: float
    recovered: bool
    fresh_outage: float
    persistent_outage: float
    quiet_gap: float  # the longest gap before the fault: what the probe sees when nothing happens
    probe_late: float  # how late the probe itself was at most
    tail: float  # from the end of the outage to the last fresh connection that failed
    tail_failed: float  # share of fresh connections that failed in that time
    acknowledged: int
    lost: int
    ambiguous: int  # sent and never answered
    ambiguous_there: int
    refused_there: int  # said to have failed, and there
    twice: int

    @property
    def outage_ended(self) -> float:
        return self.outage_began + self.outage


def longest_gap(times: Sequence[float], since: float, until: float) -> tuple[float, float]:
    """Length and beginning of the longest gap that ends after `since`; the last one may be open."""
    points = sorted(t for t in times if t <= until)
    # Without any acknowledgement the gap lasts from the fault on.
    points = points if points and points[0] <= since else [since, *points]
    gaps = [
        (after - before, before)
        for before, after in zip(points, [*points[1:], until], strict=True)
        if after > since
    ]
    return max(gaps, default=(0.0, since))


def judge(
    attempts: Iterable[Attempt], struck: float, ended: float, rows: Iterable[int]
) -> Verdict:
    """`struck`: when the fault began; `ended`: when the observation ended, the fault undone or
    not; `rows`: the numbers that the database has at the end."""
    all_attempts = sorted(attempts, key=lambda a: a.ended)
    acknowledged = [a for a in all_attempts if a.outcome == "ok"]
    observed = [a.ended for a in acknowledged if a.ended <= ended]
    outage, began = longest_gap(observed, struck, ended)
    back = began + outage
    by_kind = {
        kind: longest_gap([a.ended for a in acknowledged if a.kind == kind], struck, ended)[0]
        for kind in ("fresh", "persistent")
    }
    before = [t for t in observed if t <= struck]
    later = [a for a in all_attempts if a.kind == "fresh" and back <= a.begun <= ended]
    failed = [a for a in later if a.outcome != "ok"]
    last = max((a.begun for a in failed), default=back)
    in_tail = [a for a in later if a.begun <= last]
    there = Counter(rows)
    ambiguous = [a.number for a in all_attempts if a.outcome == "unknown"]
    return Verdict(
        outage=outage,
        outage_began=began,
        recovered=any(t >= back and t > struck for t in observed),
        fresh_outage=by_kind["fresh"],
        persistent_outage=by_kind["persistent"],
        quiet_gap=max((b - a for a, b in zip(before, before[1:], strict=False)), default=0.0),
        probe_late=max((a.begun - a.due for a in all_attempts), default=0.0),
        tail=last - back,
        tail_failed=len(failed) / len(in_tail) if in_tail else 0.0,
        acknowledged=len(acknowledged),
        lost=sum(a.number not in there for a in acknowledged),
        ambiguous=len(ambiguous),
        ambiguous_there=sum(n in there for n in ambiguous),
        refused_there=sum(a.number in there for a in all_attempts if a.outcome == "no"),
        twice=sum(count > 1 for count in there.values()),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between neighbours, as numpy's default; of no values: 0."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
