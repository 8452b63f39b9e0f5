"""The table at the end of a chaos run. Owns its columns; every figure comes from a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.chaos import checker
from tests.chaos.checker import Violation
from tests.chaos.history import History

HEAD = (
    "nemesis", "mode", "runs", "outage p50", "max", "acknowledged", "lost", "unknown",
    "promotions", "redundant p50", "max", "broken",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """One trial and what is wrong with it."""

    history: History
    violations: Sequence[Violation]


def rows(verdicts: Sequence[Verdict], over_modes: bool = False) -> list[tuple[str, ...]]:
    """One row for each nemesis and mode, in the order of their first trial; seconds.

    `over_modes`: one row for each nemesis.
    """
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        mode = "all" if over_modes else verdict.history.mode
        groups.setdefault((verdict.history.nemesis, mode), []).append(verdict)
    made: list[tuple[str, ...]] = []
    for (nemesis, mode), group in groups.items():
        histories = [verdict.history for verdict in group]
        outages = [checker.outage(history) for history in histories]
        back = [h.redundant - h.struck for h in histories if h.redundant]
        made.append((
            nemesis, mode, str(len(group)), f"{median(outages):.2f}", f"{max(outages):.2f}",
            str(sum(len(h.acknowledged()) for h in histories)),
            str(sum(len(checker.lost(h)) for h in histories)),
            str(sum(op.outcome == "unknown" for h in histories for op in h.ops)),
            str(sum(checker.promotions(h) for h in histories)),
            f"{median(back):.1f}" if back else "never", f"{max(back):.1f}" if back else "never",
            ", ".join(sorted({v.invariant for each in group for v in each.violations})) or "-",
        ))  # fmt: skip
    return made


def render(verdicts: Sequence[Verdict], over_modes: bool = False) -> str:
    """The table as text, aligned, and what was broken."""
    lines = [HEAD, *rows(verdicts, over_modes)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    broken = [
        f"{verdict.history.nemesis} {verdict.history.mode}: {violation}"
        for verdict in verdicts
        for violation in verdict.violations
    ]
    return text + "\n" + "\n".join(broken or ["no invariant was broken"])
