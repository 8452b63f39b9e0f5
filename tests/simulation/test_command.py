"""`make sim`: every schedule asked for is run once, and a broken one is said and fails the run."""

from __future__ import annotations

import pytest

from tests.simulation import __main__ as command
from tests.simulation.__main__ import KINDS, Result, say, tasks
from tests.simulation.schedule import Broken, Schedule

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("schedules", [1, 25, 100, 500])
def test_each_kind_gets_the_same_seeds_once(schedules: int) -> None:
    found = tasks(list(KINDS), 7, schedules)
    for kind in KINDS:
        seeds = [seed for of, some in found if of == kind for seed in some]
        assert seeds == list(range(7, 7 + -(-schedules // len(KINDS))))


def test_a_broken_schedule_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(schedule: Schedule) -> int:
        raise Broken(f"seed {schedule.seed}: I1")

    good = Result("plain", 0, 5, frozenset({"renew"}))
    assert say([good], 1.0) == 0
    monkeypatch.setattr(Schedule, "run", breaks)
    broken = command.run("plain", 1)
    assert broken.broken == "seed 1: I1"
    assert say([good, broken], 1.0) == 1
    assert "broken: [1]" in capsys.readouterr().out
