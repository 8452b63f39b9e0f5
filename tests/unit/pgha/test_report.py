"""Log lines: one JSON object each, which a program can order by time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from pgha.report import Report

pytestmark = pytest.mark.unit


def test_no_fact_takes_the_place_of_the_time_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Report("db-0").log("fenced", at=12.5, member="db-9", boottime=12.5, why=None)
    text = capsys.readouterr().out
    assert text.startswith('{"at"'), "the time comes first"
    line = json.loads(text)
    assert abs(datetime.fromisoformat(line.pop("at")) - datetime.now(UTC)) < timedelta(seconds=5)
    assert line == {"member": "db-0", "event": "fenced", "boottime": 12.5}
