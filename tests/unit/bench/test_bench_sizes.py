"""Sizes: what is read from an agent's log and from network counters, and the tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import sizes

pytestmark = pytest.mark.unit

LOG = """\
2026-11-27 06:00:00.000 GMT [42] LOG:  "job-done" is no word of PostgreSQL's
{"at": "x", "member": "ha-1", "event": "job-done", "kind": "clone", "seconds": 3.5}
{"at": "x", "member": "ha-1", "event": "job-started", "kind": "rewind", "source": "ha-0"}
{"at": "x", "member": "ha-1", "event": "job-failed", "kind": "rewind", "why": "no"}
{"at": "x", "member": "ha-1", "event": "job-done", "kind": "rewind", "seconds": 0.75}
{"at": "x", "member": "ha-1", "event": "job-done", "kind": "rewind", "seconds": 1}
"""
NET = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo: 9999999      10    0    0    0     0          0         0  9999999      10    0    0
  eth0: 1500000     900    0    0    0     0          0         0    70000     800    0    0
"""


def test_jobs_are_read_from_the_log() -> None:
    assert sizes.job(LOG, "clone") == 3.5
    assert sizes.jobs(LOG, "rewind") == [0.75, 1.0], "one that failed is none"
    assert sizes.job("", "clone") is None


def test_the_loopback_is_no_network() -> None:
    assert sizes.received_bytes(NET) == 1_500_000


def test_figures_are_kept_by_kind_and_shown_in_columns(tmp_path: Path) -> None:
    rows = [
        {"kind": "replicas", "members": 1, "all there s": 9.5},
        {"kind": "wal", "writers": 4, "same primary": True},
        {"kind": "replicas", "members": 3, "all there s": 14.123, "switchover command s": 1.0},
    ]
    (tmp_path / "sizes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = sizes.load(tmp_path)
    assert list(found) == ["replicas", "wal"]
    assert sizes.lines(found["replicas"]) == (
        ["members", "all there s", "switchover command s"],
        [["1", "9.50", ""], ["3", "14.12", "1.00"]],
    )
    assert sizes.lines(found["wal"])[1] == [["4", "True"]]
