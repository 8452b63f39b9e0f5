"""Log lines: one JSON object each, which a program can order by time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pgha.http.metrics import Metrics
from pgha.report import Report
from pgha.rules import decide
from tests.unit.pgha.by_hand import standby

pytestmark = pytest.mark.unit


def test_no_fact_takes_the_place_of_the_time_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Report("db-0").log("fenced", at=12.5, member="db-9", boottime=12.5, why=None)
    text = capsys.readouterr().out
    assert text.startswith('{"at"'), "the time comes first"
    line = json.loads(text)
    assert abs(datetime.fromisoformat(line.pop("at")) - datetime.now(UTC)) < timedelta(seconds=5)
    assert line == {"member": "db-0", "event": "fenced", "boottime": 12.5}


@pytest.mark.parametrize(
    ("receiving", "term", "shown"), [(True, 5, 4), (True, 4, 3), (False, 5, 3)]
)
def test_a_standby_that_streams_shows_the_timeline_that_it_streams(
    receiving: bool, term: int, shown: int
) -> None:
    """Its directory was last read before it followed the new primary."""
    f = standby()
    run = replace(f.run, receiving=receiving, attached_term=term)
    record = replace(f.record, term=5, timeline=4)
    f = replace(f, run=run, data=replace(f.data, timeline=3), lease=replace(f.lease, record=record))
    report, metrics = Report("a-0"), Metrics("a", "a-0")
    assert json.loads(report.status(f, decide(f)))["timeline"] == shown
    report.measure(metrics, f)
    assert metrics.registry.get_sample_value(
        "pgha_timeline", {"cluster": "a", "member": "a-0"}
    ) == shown
