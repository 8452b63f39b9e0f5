"""The benchmark's table: order, medians, targets."""

from __future__ import annotations

from typing import Any

import pytest

from bench.faults import FAULTS
from bench.table import COLUMNS, TARGETS, grouped, line_of, phase_lines, probe_line, report, text

pytestmark = pytest.mark.unit


def trial(system: str, fault: str, way: str, outage: float, lost: int = 0) -> dict[str, Any]:
    verdict = {
        "outage": outage, "persistent_outage": outage, "tail": 0.0, "tail_failed": 0.0,
        "lost": lost, "ambiguous": 1, "quiet_gap": 0.03, "probe_late": 0.01,
        "refused_there": 0, "twice": 0, "recovered": outage < 100,
    }  # fmt: skip
    return {
        "system": system, "fault": fault, "load": 0.5, "ways": {way: verdict},
        "phases": {way: {"reconnect": outage}},
    }  # fmt: skip


TRIALS = [
    trial("pgha", "switchover", "service", 0.5),
    trial("pgha", "switchover", "dsn", 0.4),
    trial("patroni", "switchover", "service", 2.2),
    trial("patroni", "switchover", "dsn", 2.0),
    trial("pgha", "pod-delete", "dsn", 0.6),
    trial("pgha", "pod-delete", "service", 1.2),
    trial("pgha", "switchover", "service", 0.7, lost=1),
]


def test_a_faults_rows_stand_together() -> None:
    assert list(grouped(TRIALS)) == [
        ("switchover", "service", "pgha"), ("switchover", "service", "patroni"),
        ("switchover", "dsn", "pgha"), ("switchover", "dsn", "patroni"),
        ("pod-delete", "service", "pgha"), ("pod-delete", "dsn", "pgha"),
    ]  # fmt: skip


def test_a_line_has_the_median_and_the_target() -> None:
    key = ("switchover", "service", "pgha")
    line = dict(zip(COLUMNS, line_of(key, grouped(TRIALS)[key]), strict=True))
    assert (line["p50"], line["max"], line["target"], line["met"]) == ("0.60", "0.70", "0.8", "yes")
    assert (line["trials"], line["lost"], line["ambiguous"]) == ("2", "1", "2")


def test_a_target_that_is_missed_says_so() -> None:
    key = ("pod-delete", "dsn", "pgha")
    line = dict(zip(COLUMNS, line_of(key, grouped(TRIALS)[key]), strict=True))
    assert (line["target"], line["met"]) == ("0.5", "no")


def test_others_have_no_target() -> None:
    key = ("switchover", "dsn", "patroni")
    line = dict(zip(COLUMNS, line_of(key, grouped(TRIALS)[key]), strict=True))
    assert (line["target"], line["met"]) == ("", "")


def test_an_outage_that_did_not_end_is_marked() -> None:
    key = ("switchover", "dsn", "pgha")
    made = [trial("pgha", "switchover", "dsn", outage) for outage in (150.0, 0.5)]
    assert line_of(key, grouped(made)[key])[3] == "2 (1 open)"


def test_every_target_is_of_a_fault() -> None:
    assert set(TARGETS) <= set(FAULTS)


def test_the_report_has_all_groups_and_the_probes_own_gap() -> None:
    made = report(TRIALS)
    assert made.count("| pgha | switchover | service |") == 2
    assert "max 0.030 s" in made
    assert probe_line([]) == "no trials"


def test_phases_that_were_not_seen_are_empty() -> None:
    assert phase_lines(TRIALS)[0] == ["pgha", "switchover", "service", *[""] * 6, "0.60"]


def test_columns_of_text_are_even() -> None:
    assert text(("a", "b"), [["long", "x"]]) == "a     b\nlong  x"
