"""The table as people see it, and that every rule is alive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgha.rules import RULES
from pgha.rules.document import markdown
from tests.simulation.schedule import Schedule

ROOT = Path(__file__).parents[3]

#: Rules that the simulated world cannot bring about, and where they are seen instead.
ELSEWHERE = {
    "foreign-owner": "tests/e2e: a forced deletion leaves the mark of the former pod",
    "fenced": "kept for a fencer that reports while PostgreSQL still runs",
    "birth-without-lease": "initdb takes a second; a lease is not lost in it by chance",
    "fencer-silent": "the simulated fencer always answers; tests/chaos kills the real one",
    "refused-directory": "tests/e2e/test_bad_luck.py: a foreign data directory",
    "crash-give-up": "the simulated disk is never ill",
    "holder-starting": "the simulated server starts at once",
    "slots": "the simulated slots are never lost",
    "switchover-refused": "tests/e2e/test_day_two.py",
    "copying": "the simulated copies have a source until they end",
}


@pytest.mark.unit
def test_ids_are_unique_and_readable() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", i) for i in ids)
    assert all(rule.sentence.endswith(".") for rule in RULES)


@pytest.mark.unit
def test_the_page_is_current() -> None:
    """`python -m pgha rules > docs/rules.md`"""
    assert (ROOT / "docs" / "rules.md").read_text() == markdown()


@pytest.mark.simulation
def test_every_rule_fires_in_some_history() -> None:
    fired: set[str] = set()
    expected = {rule.id for rule in RULES} - set(ELSEWHERE)
    for seed in range(600):
        schedule = Schedule(seed)
        schedule.run()
        for member in schedule.members.values():
            fired |= member.fired
        if expected <= fired:
            return
    raise AssertionError(f"never fired: {sorted(expected - fired)}")
