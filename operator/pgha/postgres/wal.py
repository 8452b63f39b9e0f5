"""Where the valid WAL in a folder ends, exactly as recovery would find it. Reads files only.

Recovery takes each segment from the newest timeline of its history that has it
(xlogrecovery.c, XLogFileReadAnyTLI) and reads until a record is not valid. Here the same files are
linked into a folder of their own, and pg_waldump checks the records: it knows each version's
format, and its `--quiet` reads a gigabyte in a second.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgha.lsn import LSN, History
from pgha.postgres.programs import ProgramLate, run

PAGE = 8192
SHORT_HEADER, LONG_HEADER = 24, 40  # bytes of a page header, the long one at a segment's start
ANY = 1  # the timeline that the links are named after

# xlog_internal.h: magic, info, timeline, address, remaining length, (4 bytes of nothing), then
# system id, segment size, block size.
_HEADER = struct.Struct("<HHIQI4xQII")
_IS_LONG = 0x0002
_RECORD = re.compile(
    r"rmgr: (\S+)\s+len \(rec/tot\):\s*\d+/\s*(\d+), tx:\s*\d+, lsn: ([0-9A-F]+/[0-9A-F]+), "
    r"prev [0-9A-F]+/[0-9A-F]+, desc: (\S*)"
)
_LAST = re.compile(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+):")


class WalUnreadable(Exception):
    """pg_waldump did not end in time or could not run; one sentence."""


@dataclass(frozen=True)
class Shape:
    """What every segment of a cluster has in common."""

    segment_size: int
    system_id: int

    def number(self, at: int) -> int:
        return at // self.segment_size

    def name(self, timeline: int, number: int) -> str:
        """The file of the `number`th segment, as xlog_internal.h's XLogFileName makes it."""
        per_id = 0x100000000 // self.segment_size
        return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


@dataclass(frozen=True)
class Segment:
    """A file that recovery would read. `header` is of its first page."""

    timeline: int
    path: Path
    header: bytes


@dataclass(frozen=True)
class LastRecord:
    start: LSN
    end: LSN


@dataclass(frozen=True)
class Line:
    """What pg_waldump prints of a record."""

    start: LSN
    total: int
    switch: bool


def parse_line(line: str) -> Line | None:
    """None for what is no record's line. A record's own text may contain anything, even lines
    that look like another's: only the first line of one record can be trusted."""
    found = _RECORD.match(line)
    if found is None:
        return None
    switch = found[1] == "XLOG" and found[4] == "SWITCH"
    return Line(LSN.parse(found[3]), int(found[2]), switch)


def end_of_record(start: LSN, total: int, segment_size: int, switch: bool = False) -> LSN:
    """The end of a record of `total` bytes at `start`: page headers lie in between."""
    position, left = int(start), total
    while True:
        page_end = (position // PAGE + 1) * PAGE
        room = page_end - position
        if left <= room:
            position += left
            break
        left -= room
        position = page_end + (LONG_HEADER if page_end % segment_size == 0 else SHORT_HEADER)
    position = (position + 7) // 8 * 8
    if switch:  # an XLOG SWITCH fills the rest of its segment
        position = -(-position // segment_size) * segment_size
    return LSN(position)


def segments(
    wal: Path, history: History, timeline: int, first: int, shape: Shape
) -> list[Segment]:
    """The files that recovery to `timeline` reads from the `first` segment on, until one is
    missing or was not begun (made ahead, or recycled)."""
    begins = [0, *(int(s.at) for s in history)]
    newest_first = list(zip([*(s.timeline for s in history), timeline], begins, strict=True))[::-1]
    found: list[Segment] = []
    while True:
        number, oldest = first + len(found), found[-1].timeline if found else 0
        for known, begin in newest_first:
            if known >= oldest and number >= shape.number(begin):
                path = wal / shape.name(known, number)
                header = _first_header(path)
                if header is not None:
                    break
        else:
            return found
        if not _was_begun(header, number, shape):
            return found
        found.append(Segment(known, path, header))


def _first_header(path: Path) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(LONG_HEADER)
    except FileNotFoundError:
        return None


def _was_begun(header: bytes, number: int, shape: Shape) -> bool:
    if len(header) < LONG_HEADER:
        return False
    magic, info, _, address, _, system_id, segment_size, _ = _HEADER.unpack(header)
    return (
        magic != 0 and bool(info & _IS_LONG) and address == number * shape.segment_size
        and system_id == shape.system_id and segment_size == shape.segment_size
    )


def last_record(
    bin: Path, found: Sequence[Segment], first: int, start: LSN, shape: Shape, timeout: float
) -> LastRecord | None:
    """The last valid record at or after `start`; None where there is none."""
    deadline = time.monotonic() + timeout
    if shape.number(start) >= first + len(found):
        return None
    with tempfile.TemporaryDirectory(prefix="pgha-wal-") as folder:
        for n, segment in enumerate(found):
            os.symlink(segment.path, Path(folder) / shape.name(ANY, first + n))
        stop = first + len(found) + 1
        _write_unused(Path(folder), stop - 1, found[-1].header, shape)
        command: list[str | Path] = [
            bin / "pg_waldump", "-p", folder, "-t", str(ANY),
            "-e", str(LSN(stop * shape.segment_size)),
        ]  # fmt: skip

        def dump(*options: str) -> tuple[str, str]:
            try:
                said = run([*command, *options], deadline - time.monotonic())
            except (ProgramLate, OSError) as e:
                raise WalUnreadable(f"the end of WAL in {found[0].path.parent}: {e}") from e
            return said.out, said.err

        last = _LAST.search(dump("-s", str(start), "--quiet")[1])
        if last is None or last[1] == "0/0":
            return None
        line = parse_line(dump("-s", last[1], "-n", "1")[0])
    if line is None or line.start != LSN.parse(last[1]):
        raise WalUnreadable(f"pg_waldump does not print the record at {last[1]} that it has read")
    end = end_of_record(line.start, line.total, shape.segment_size, line.switch)
    return LastRecord(line.start, end)


def _write_unused(folder: Path, number: int, header: bytes, shape: Shape) -> None:
    """A segment in which no record was written yet, so that the reading ends with a word about
    the last valid record wherever that is."""
    magic, info, timeline, *_, block_size = _HEADER.unpack(header)
    info &= ~1  # it does not continue a record
    page = _HEADER.pack(
        magic, info, timeline, number * shape.segment_size, 0, shape.system_id,
        shape.segment_size, block_size,
    )  # fmt: skip
    with open(folder / shape.name(ANY, number), "wb") as file:
        file.write(page)
        file.truncate(shape.segment_size)

