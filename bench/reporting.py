"""What a reader gets: tables on the terminal, tables and plots in docs/performance/."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bench import growth, profiling, sizes
from bench.phases import PHASES
from bench.results import read
from bench.table import (
    COLUMNS,
    grouped,
    line_of,
    markdown,
    phase_lines,
    probe_line,
    report,
    text,
)
from lab.cluster import Lab
from lab.paths import REPOSITORY

DOCS = REPOSITORY / "docs" / "performance"
LOCK = REPOSITORY / "requirements" / "bench.txt"


def print_tables(results: Path) -> None:
    trials = read(results, "trials.jsonl")
    if trials:
        lines = [line_of(key, group) for key, group in grouped(trials).items()]
        print(text(COLUMNS, lines), end="\n\n")
        print(text(("system", "fault", "way", *PHASES), phase_lines(trials)), end="\n\n")
        print(probe_line(trials))
    for kind, figures in sizes.load(results).items():
        print(f"{kind}\n{text(*sizes.lines(figures))}", end="\n\n")
    short = read(results, "leases.jsonl")
    if short:
        print(text(*sizes.lines(short)), end="\n\n")
    profiles = profile_lines(results)
    if profiles:
        print(text(profiling.HEAD, profiles))
    grown = growth_rows(results)
    if grown:
        print(text(*growth.lines(grown)))
    costs = cost_lines(results)
    if costs:
        print(text(costs[0], costs[1:]))


def profile_lines(results: Path) -> list[list[str]]:
    """The functions of each profile; of the same thing the last one."""
    found = {}
    for each in read(results, "profiles.jsonl"):
        found[each["what"], each["role"]] = each
    return profiling.lines(list(found.values()))


def growth_rows(results: Path) -> list[dict[str, Any]]:
    """By the number of clusters; of each number the last reading."""
    found = {}
    for reading in read(results, "growth.jsonl"):
        found[reading["clusters"]] = reading
    return [found[number] for number in sorted(found)]


def cost_lines(results: Path) -> list[list[str]]:
    """A line a figure, a column a system; the first line is the head. Later readings win."""
    found: dict[str, dict[str, object]] = {}
    for reading in read(results, "cost.jsonl"):
        found[reading.pop("system")] = reading
    figures = list(dict.fromkeys(name for reading in found.values() for name in reading))
    if not figures:
        return []
    rows = [[name, *(shown(reading.get(name)) for reading in found.values())] for name in figures]
    return [["figure", *found], *rows]


def shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(each)}" for key, each in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def make_plot_environment(lab: Lab) -> Path:
    """The interpreter that has matplotlib, in an environment of its own in the cache."""
    folder = lab.layout.cache.root / "bench" / "venv"
    subprocess.run([REPOSITORY / "requirements/venv.sh", folder, LOCK], check=True)
    return folder / "bin" / "python"


def write_docs(results: Path, lab: Lab) -> None:
    """The tables as Markdown, and the plots by an interpreter that has matplotlib."""
    DOCS.mkdir(parents=True, exist_ok=True)
    trials = read(results, "trials.jsonl")
    if trials:
        (DOCS / "outages.md").write_text(report(trials))
        python = make_plot_environment(lab)
        subprocess.run([python, "-m", "bench.plots", results, DOCS], cwd=REPOSITORY, check=True)
    for file in sorted(results.rglob("pgbench.json")):
        lines = [[k, shown(v)] for k, v in json.loads(file.read_text()).items()]
        (DOCS / "pgbench.md").write_text(markdown(("figure", "value"), lines) + "\n")
    measured = sizes.load(results)
    if measured:
        tables = [f"## {kind}\n\n{markdown(*sizes.lines(f))}\n" for kind, f in measured.items()]
        (DOCS / "sizes.md").write_text("\n".join(tables))
    short = read(results, "leases.jsonl")
    if short:
        (DOCS / "leases.md").write_text(markdown(*sizes.lines(short)) + "\n")
    profiles = profile_lines(results)
    if profiles:
        (DOCS / "profile.md").write_text(markdown(profiling.HEAD, profiles) + "\n")
        for file in sorted(results.rglob("flame-*.svg")):
            shutil.copy(file, DOCS / file.name)
    grown = growth_rows(results)
    if grown:
        (DOCS / "growth.md").write_text(markdown(*growth.lines(grown)) + "\n")
    costs = cost_lines(results)
    if costs:
        (DOCS / "cost.md").write_text(markdown(costs[0], costs[1:]) + "\n")
