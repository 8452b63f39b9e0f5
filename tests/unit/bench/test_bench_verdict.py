"""The numbers of the benchmark, on attempts written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.attempts import Attempt, Kind, Outcome, dump, load
from bench.verdict import judge, longest_gap, percentile

pytestmark = pytest.mark.unit


def attempt(
    number: int, ended: float, outcome: Outcome = "ok", kind: Kind = "fresh", takes: float = 0.01
) -> Attempt:
    return Attempt(kind, number, ended - takes, ended - takes, ended, outcome, "10.0.0.1")


def test_the_outage_is_the_longest_gap_after_the_fault() -> None:
    times = [0.0, 3.0, 3.1, 3.2, 5.2, 5.3]
    made = [attempt(n, at) for n, at in enumerate(times)]
    found = judge(made, struck=3.15, ended=5.35, rows=range(6))
    assert found.outage == pytest.approx(2.0)
    assert found.outage_began == pytest.approx(3.2)
    assert found.quiet_gap == pytest.approx(3.0)
    assert found.recovered
    assert found.lost == found.ambiguous == found.twice == 0


def test_an_outage_that_does_not_end_lasts_to_the_end_of_the_observation() -> None:
    found = judge([attempt(1, 1.0)], struck=1.5, ended=9.0, rows=[1])
    assert found.outage == pytest.approx(8.0)
    assert not found.recovered


def test_without_any_acknowledgement_the_outage_begins_with_the_fault() -> None:
    assert longest_gap([], since=2.0, until=5.0) == (3.0, 2.0)


def test_a_write_of_the_other_client_ends_the_gap_of_both_together() -> None:
    made = [attempt(1, 1.0), attempt(2, 2.0, kind="persistent"), attempt(3, 3.0)]
    found = judge(made, struck=1.0, ended=3.0, rows=[1, 2, 3])
    assert found.outage == pytest.approx(1.0)
    assert found.fresh_outage == pytest.approx(2.0)


def test_fresh_connections_that_fail_after_the_outage_are_its_tail() -> None:
    made = [attempt(1, 1.0), attempt(2, 3.0)]
    made += [attempt(3, 3.5, "no"), attempt(4, 3.6), attempt(5, 4.0, "no"), attempt(6, 5.0)]
    found = judge(made, struck=1.0, ended=5.0, rows=[1, 2, 4, 6])
    assert found.outage_ended == pytest.approx(3.0)
    assert found.tail == pytest.approx(0.99)
    assert found.tail_failed == pytest.approx(2 / 3)


def test_lost_doubled_and_ambiguous_rows_are_counted() -> None:
    made = [attempt(1, 1.0), attempt(2, 1.1), attempt(3, 1.2, "unknown"),
            attempt(4, 1.3, "unknown"), attempt(5, 1.4, "no")]  # fmt: skip
    found = judge(made, struck=0.0, ended=2.0, rows=[1, 1, 4, 5])
    assert (found.lost, found.twice) == (1, 1)
    assert (found.ambiguous, found.ambiguous_there, found.refused_there) == (2, 1, 1)


def test_percentiles_are_linear_between_neighbours() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == pytest.approx(2.5)
    assert percentile([1.0], 0.95) == 1.0
    assert percentile([], 0.5) == 0.0


def test_attempts_come_back_from_their_file(tmp_path: Path) -> None:
    made = [attempt(1, 1.0), attempt(2, 2.0, "unknown", "persistent")]
    dump(made, tmp_path / "attempts.jsonl")
    assert load(tmp_path / "attempts.jsonl") == made
