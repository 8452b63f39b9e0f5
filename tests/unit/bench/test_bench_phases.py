"""Where an outage's time went, from sights; and reading them from logs."""

from __future__ import annotations

import pytest

from bench.phases import phases
from bench.sights import Sight
from bench.watching import read_line

pytestmark = pytest.mark.unit


def test_each_phase_is_its_first_sign_after_the_fault() -> None:
    sights = [
        Sight(9.0, "endpoint", "slice", "10.0.0.1"),
        Sight(9.0, "label", "db-0", "primary"),
        Sight(9.5, "agent decision", "db-1", "follow db-0 This standby receives."),
        Sight(10.1, "agent decision", "db-1", "follow db-0 This standby receives."),
        Sight(10.2, "agent decision", "db-1", "successor The last holder named it. [Acquire]"),
        Sight(10.3, "acquire", "db", ""),
        Sight(10.4, "acquire", "db", "db-1/uid/1"),
        Sight(10.5, "server promoted", "db-1", ""),
        Sight(10.6, "label", "db-0", "replica"),
        Sight(10.7, "label", "db-1", "primary"),
        Sight(10.8, "endpoint", "slice", "10.0.0.2"),
    ]
    found = phases(sights, struck=10.0, ended=11.0)
    assert found == pytest.approx({
        "detect": 0.2, "acquire": 0.4, "promote": 0.5, "label": 0.7, "endpoint": 0.8,
        "reconnect": 1.0,
    })  # fmt: skip


def test_what_was_not_seen_is_left_out() -> None:
    assert phases([], struck=10.0, ended=11.0) == {"reconnect": 1.0}


def test_what_comes_after_the_outage_is_no_part_of_it() -> None:
    assert "promote" not in phases([Sight(20.0, "server promoted", "db-1", "")], 10.0, 12.0)


def test_a_line_of_the_server_is_timed_to_the_millisecond() -> None:
    line = "2026-11-27 01:27:10.528 GMT [22] LOG:  archive recovery complete"
    found = read_line("db-1", line, wall=1795742000.0)
    assert found is not None
    assert found.what == "server promoted"
    assert found.at == pytest.approx(830.528, abs=1e-3)


def test_a_line_of_the_agent_shows_its_rule_and_its_actions() -> None:
    line = (
        '{"at": "2026-11-27T01:27:10.528Z", "member": "db-1", "event": "decision", '
        '"rule": "promote", "why": "PostgreSQL is promoted.", "actions": ["Promote"]}'
    )
    found = read_line("db-1", line, wall=1795742000.0)
    assert found is not None
    assert found.what == "agent decision"
    assert found.shown == "promote PostgreSQL is promoted. [Promote]"
    assert found.at == pytest.approx(830.528, abs=1e-3)


@pytest.mark.parametrize("line", ["", "hello", '{"at": 3', '{"at": "never", "event": "x"}',
                                  "2026-11-27 01:27:10.528 GMT [22] ERROR:  no"])  # fmt: skip
def test_other_lines_are_no_sights(line: str) -> None:
    assert read_line("db-1", line, wall=0.0) is None
