"""The table of the outages, as text and as Markdown. Pure: from trials to lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.phases import PHASES
from bench.results import Row
from bench.verdict import percentile

# Medians in seconds, Service and DSN; the node cut's depends on the lease: its duration + 2 s.
TARGETS = {
    "switchover": (0.8, 0.5),
    "pod-delete": (1.3, 0.5),
    "postmaster-kill": (1.0, 0.7),
    "init-kill": (1.3, 0.8),
    "force-delete": (2.0, 1.5),
    "node-cut": (17.0, 17.0),
}
COLUMNS = ("system", "fault", "way", "trials", "p50", "p95", "max", "target", "met", "persistent",
           "tail", "failing", "lost", "ambiguous")  # fmt: skip


def grouped(trials: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """(fault, way, system) -> its trials; a fault's rows stand together."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for trial in trials:
        for way in trial["ways"]:
            groups.setdefault((trial["fault"], way, trial["system"]), []).append(trial)
    order = list(dict.fromkeys(key[0] for key in groups))
    return dict(sorted(groups.items(), key=lambda g: (order.index(g[0][0]), g[0][1] == "dsn")))


def line_of(key: tuple[str, str, str], trials: Sequence[Row]) -> list[str]:
    fault, way, system = key
    found = [trial["ways"][way] for trial in trials]

    def at(share: float, name: str = "outage") -> float:
        return percentile([verdict[name] for verdict in found], share)

    target = TARGETS.get(fault, (None, None))[way == "dsn"] if system.startswith("pgha") else None
    met = "" if target is None else "yes" if at(0.5) <= target else "no"
    still = sum(not v["recovered"] for v in found)
    count = f"{len(found)} ({still} open)" if still else str(len(found))
    return [
        system, fault, way, count, f"{at(0.5):.2f}", f"{at(0.95):.2f}", f"{at(1.0):.2f}",
        "" if target is None else f"{target:g}", met, f"{at(0.5, 'persistent_outage'):.2f}",
        f"{at(0.5, 'tail'):.2f}", f"{100 * at(0.5, 'tail_failed'):.0f} %",
        str(sum(v["lost"] for v in found)), str(sum(v["ambiguous"] for v in found)),
    ]  # fmt: skip


def phase_lines(trials: Sequence[Row]) -> list[list[str]]:
    """Medians of the phases' moments after the fault; empty where a phase was not seen."""
    lines = []
    for (fault, way, system), group in grouped(trials).items():
        cells = []
        for phase in PHASES:
            seen = [t["phases"][way][phase] for t in group if phase in t["phases"][way]]
            cells.append(f"{percentile(seen, 0.5):.2f}" if seen else "")
        lines.append([system, fault, way, *cells])
    return lines


def probe_line(trials: Sequence[Row]) -> str:
    """What the probe sees of itself, without which no figure means much."""
    verdicts = [verdict for trial in trials for verdict in trial["ways"].values()]
    if not verdicts:
        return "no trials"
    quiet = [v["quiet_gap"] for v in verdicts]
    late = [v["probe_late"] for v in verdicts]
    loads = [trial["load"] for trial in trials]
    wrong = sum(v["refused_there"] + v["twice"] for v in verdicts)
    return (
        f"Longest gap before a fault: median {percentile(quiet, 0.5):.3f} s, "
        f"max {max(quiet):.3f} s. The probe was late by at most {max(late):.3f} s. "
        f"Load average at the start of a trial: median {percentile(loads, 0.5):.2f}, "
        f"max {max(loads):.2f}. Rows that are there twice or though refused: {wrong}."
    )


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    made = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(made + ["| " + " | ".join(line) + " |" for line in lines])


def text(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns of even width."""
    every = [list(head), *map(list, lines)]
    widths = [max(len(row[n]) for row in every) for n in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    )


def report(trials: Sequence[Row]) -> str:
    """The Markdown that docs/performance/ keeps; times in seconds."""
    outages = [line_of(key, group) for key, group in grouped(trials).items()]
    return "\n\n".join([
        "Outages in seconds: longest gap between acknowledged inserts. `persistent`, `tail` and "
        "`failing` are medians; lost and ambiguous rows are sums over all trials.",
        markdown(COLUMNS, outages),
        "When each step was first seen, in seconds after the fault (medians).",
        markdown(("system", "fault", "way", *PHASES), phase_lines(trials)),
        probe_line(trials),
    ]) + "\n"  # fmt: skip
