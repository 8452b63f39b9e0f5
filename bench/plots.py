"""The plots. `python -m bench.plots RESULTS INTO` draws them with matplotlib, which lives in an
environment of its own (requirements/bench.txt), so this file imports nothing else that is heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402

from bench.attempts import load  # noqa: E402
from bench.phases import PHASES  # noqa: E402
from bench.results import Row, read  # noqa: E402
from bench.table import grouped  # noqa: E402
from bench.verdict import percentile  # noqa: E402

BUCKET = 0.1  # seconds
BEFORE = 2.0


def save(figure: Any, into: Path, name: str) -> None:
    for kind in ("png", "svg"):
        # Neither the moment nor random names: the same data draws the same file.
        date = {"Date": None} if kind == "svg" else {}
        figure.savefig(into / f"{name}.{kind}", dpi=110, bbox_inches="tight", metadata=date)
    pyplot.close(figure)


def writes(results: Path, trials: Sequence[Row], fault: str, into: Path) -> None:
    """Acknowledged writes over time around one fault: the trial whose outage is the median."""
    systems = list(dict.fromkeys(t["system"] for t in trials if t["fault"] == fault))
    figure, axes = pyplot.subplots(
        len(systems), 2, squeeze=False, sharex=True, figsize=(11, 1.6 + 1.7 * len(systems))
    )
    for row, system in enumerate(systems):
        for column, way in enumerate(("service", "dsn")):
            group = [
                t for t in trials
                if (t["fault"], t["system"]) == (fault, system) and way in t["ways"]
            ]  # fmt: skip
            if not group:
                continue
            group.sort(key=lambda t: t["ways"][way]["outage"])
            trial = group[len(group) // 2]
            found = next(results.rglob(f"{trial['stem']}-{way}.jsonl"), None)
            axis = axes[row][column]
            outage = trial["ways"][way]["outage"]
            axis.set_title(f"{system} by {way}: {outage:.2f} s", fontsize=9)
            axis.axvline(0, color="tab:red", linewidth=0.8)
            if found is None:
                continue
            struck = trial["struck"]
            acks = [a.ended - struck for a in load(found) if a.outcome == "ok"]
            end = max((a for a in acks), default=1.0)
            count = int((end + BEFORE) / BUCKET) + 1
            heights = [0] * count
            for at in acks:
                if at >= -BEFORE:
                    heights[int((at + BEFORE) / BUCKET)] += 1
            edges = [n * BUCKET - BEFORE for n in range(count + 1)]
            axis.stairs([h / BUCKET for h in heights], edges, fill=True, color="tab:blue")
    for axis in axes[-1]:
        axis.set_xlabel("seconds after the fault")
    figure.suptitle(f"{fault}: acknowledged writes a second")
    save(figure, into, f"writes-{fault}")


def outages(trials: Sequence[Row], into: Path) -> None:
    """Every trial a point, the median a bar."""
    groups = grouped(trials)
    faults = list(dict.fromkeys(key[0] for key in groups))
    systems = list(dict.fromkeys(key[2] for key in groups))
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for axis, way in zip(axes, ("service", "dsn"), strict=True):
        for number, system in enumerate(systems):
            for place, fault in enumerate(faults):
                found = [t["ways"][way]["outage"] for t in groups.get((fault, way, system), ())]
                if not found:
                    continue
                x = place + (number - (len(systems) - 1) / 2) * 0.25
                color = f"C{number}"
                axis.bar(x, percentile(found, 0.5), 0.22, color=color, alpha=0.4,
                         label=system if place == 0 else None)  # fmt: skip
                axis.plot([x] * len(found), found, ".", color=color, markersize=4)
        axis.set_yscale("log")
        axis.set_xticks(range(len(faults)), faults, rotation=25, ha="right")
        axis.set_title(f"by {way}")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("outage in seconds")
    axes[0].legend(fontsize=8)
    save(figure, into, "outages")


def timeline(trials: Sequence[Row], into: Path) -> None:
    """When each step was first seen, medians, through the Service."""
    groups = {key: group for key, group in grouped(trials).items() if key[1] == "service"}
    figure, axis = pyplot.subplots(figsize=(11, 1 + 0.3 * len(groups)))
    for number, ((_, way, _), group) in enumerate(groups.items()):
        for color, phase in enumerate(PHASES):
            seen = [t["phases"][way][phase] for t in group if phase in t["phases"][way]]
            if seen:
                axis.plot(percentile(seen, 0.5), number, "o", color=f"C{color}",
                          label=phase)  # fmt: skip
    axis.set_yticks(range(len(groups)), [f"{fault}  {system}" for fault, _, system in groups])
    axis.invert_yaxis()
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlabel("seconds after the fault")
    axis.grid(alpha=0.3)
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axis.legend(unique.values(), unique.keys(), fontsize=8, ncols=len(PHASES))
    save(figure, into, "phases")


def main(arguments: list[str]) -> int:
    results, into = map(Path, arguments)
    into.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams["svg.hashsalt"] = "pgha"
    trials = read(results, "trials.jsonl")
    if not trials:
        print(f"no trials below {results}", file=sys.stderr)
        return 1
    outages(trials, into)
    timeline(trials, into)
    for fault in dict.fromkeys(t["fault"] for t in trials):
        writes(results, trials, fault, into)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
