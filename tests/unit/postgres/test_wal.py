"""Lines of pg_waldump, the ends of records, and which file recovery reads."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgha.lsn import LSN, History, Switch
from pgha.postgres.wal import (
    LONG_HEADER,
    PAGE,
    SHORT_HEADER,
    Line,
    Shape,
    end_of_record,
    parse_line,
    segments,
)

pytestmark = pytest.mark.unit

MB = 1 << 20
SHAPE = Shape(MB, 77)


@pytest.mark.parametrize(("line", "expected"), [
    ("rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/03000060, prev "
     "0/03000028, desc: CHECKPOINT_ONLINE redo 0/3000028; tli 2", Line(LSN(0x3000060), 114, False)),
    ("rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/02000028, prev "
     "0/02000000, desc: SWITCH ", Line(LSN(0x2000028), 24, True)),
    ("rmgr: Heap        len (rec/tot):     54/  8203, tx:        730, lsn: A/0BC012F8, prev "
     "A/0BC012C0, desc: INSERT off: 1, flags: 0x00, blkref #0: rel 1663/5/1259 blk 0 FPW",
     Line(LSN.parse("A/BC012F8"), 8203, False)),
    ("rmgr: LogicalMessage len (rec/tot):  54/    54, tx:          0, lsn: 0/02000028, prev "
     "0/02000000, desc: SWITCH", Line(LSN(0x2000028), 54, False)),
    ("pg_waldump: error: error in WAL record at 0/1: x", None),
    ("", None),
    (" rmgr: XLOG  len (rec/tot):     24/    24, tx: 0, lsn: 0/2, prev 0/1, desc: SWITCH", None),
])  # fmt: skip
def test_lines_of_pg_waldump(line: str, expected: Line | None) -> None:
    assert parse_line(line) == expected


@given(st.text(max_size=300))
def test_any_line_is_none_or_well_formed(line: str) -> None:
    assert parse_line(line) is None or line.startswith("rmgr: ")


def walk(start: int, total: int, size: int) -> int:
    """The same, byte by byte: a header's bytes are no record's."""
    position = start
    while total:
        if position % PAGE == 0:
            position += LONG_HEADER if position % size == 0 else SHORT_HEADER
        position += 1
        total -= 1
    return -(-position // 8) * 8


@given(st.integers(0, 3 * MB // 8), st.integers(24, 40_000))
def test_the_end_of_a_record(eighth: int, total: int) -> None:
    start = eighth * 8
    if start % PAGE < LONG_HEADER:  # no record starts in a header
        start += LONG_HEADER
    assert end_of_record(LSN(start), total, MB) == walk(start, total, MB)


@given(st.integers(LONG_HEADER // 8, MB // 8 - 4))
def test_a_switch_fills_its_segment(eighth: int) -> None:
    end = end_of_record(LSN(eighth * 8), 24, MB, switch=True)
    assert end == MB


def test_a_switch_that_crosses_into_the_next_segment_fills_that() -> None:
    assert end_of_record(LSN(MB - 16), 24, MB, switch=True) == 2 * MB


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**40), st.sampled_from([1, 16, 64, 1024]))
def test_names_of_segments(timeline: int, number: int, size: int) -> None:
    shape = Shape(size * MB, 1)
    name = shape.name(timeline, number)
    if number < 2**64 // shape.segment_size:
        assert len(name) == 24
        assert int(name[:8], 16) == timeline
        at = (int(name[8:16], 16) << 32) + int(name[16:], 16) * shape.segment_size
        assert shape.number(at) == number


def put(folder: Path, timeline: int, number: int, **wrong: int) -> None:
    fields = {"magic": 0xD110, "info": 2, "address": number * MB, "system_id": 77, "size": MB}
    fields |= wrong
    page = struct.pack(
        "<HHIQI4xQII", fields["magic"], fields["info"], timeline, fields["address"], 0,
        fields["system_id"], fields["size"], PAGE,
    )  # fmt: skip
    (folder / SHAPE.name(timeline, number)).write_bytes(page.ljust(PAGE, b"\0"))


def read(folder: Path, history: History, timeline: int, first: int) -> list[int]:
    return [s.timeline for s in segments(folder, history, timeline, first, SHAPE)]


def test_segments_in_a_row(tmp_path: Path) -> None:
    for number in (3, 4, 5, 7):
        put(tmp_path, 1, number)
    assert read(tmp_path, History(), 1, 3) == [1, 1, 1]
    assert read(tmp_path, History(), 1, 6) == []


def test_each_segment_is_the_newest_timelines_that_has_begun_by_then(tmp_path: Path) -> None:
    history = History([Switch(1, LSN(4 * MB + 100)), Switch(2, LSN(6 * MB + 100))])
    for number in (3, 4, 5, 6):
        put(tmp_path, 1, number)
    put(tmp_path, 2, 4)
    put(tmp_path, 2, 5)
    put(tmp_path, 3, 5)  # of a time before the switch to it: never read
    assert read(tmp_path, history, 3, 3) == [1, 2, 2], "1's sixth is older than what was read"
    put(tmp_path, 3, 6)
    assert read(tmp_path, history, 3, 3) == [1, 2, 2, 3]


@pytest.mark.parametrize("wrong", [
    {"magic": 0}, {"info": 0}, {"address": 3 * MB}, {"system_id": 78}, {"size": 2 * MB},
])  # fmt: skip
def test_a_segment_that_was_not_begun_ends_the_row(tmp_path: Path, wrong: dict[str, int]) -> None:
    put(tmp_path, 1, 3)
    put(tmp_path, 1, 4, **wrong)
    put(tmp_path, 1, 5)
    assert read(tmp_path, History(), 1, 3) == [1]


def test_one_of_a_newer_timeline_hides_the_older(tmp_path: Path) -> None:
    """PostgreSQL opens it and goes no further, whatever the older one holds."""
    put(tmp_path, 1, 3)
    put(tmp_path, 1, 4)
    (tmp_path / SHAPE.name(2, 4)).write_bytes(bytes(PAGE))
    assert read(tmp_path, History([Switch(1, LSN(4 * MB + 8))]), 2, 3) == [1]


def test_a_short_file_is_none(tmp_path: Path) -> None:
    (tmp_path / SHAPE.name(1, 3)).write_bytes(b"\x10\xd1")
    assert read(tmp_path, History(), 1, 3) == []
