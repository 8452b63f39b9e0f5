"""Where the valid WAL of a timeline ends, by pg_waldump. Reads files only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from pgha.lsn import LSN

PAGE = 8192
SHORT_HEADER, LONG_HEADER = 24, 40  # bytes of a page header, the long one at a segment's start
_RECORD = re.compile(rb"len \(rec/tot\):\s*\d+/\s*(\d+), tx:.*?, lsn: ([0-9A-F]+/[0-9A-F]+), .*"
                     rb"desc: (\S+)")


class WalUnreadable(Exception):
    """pg_waldump did not end in time or could not run."""


def end_of_record(start: LSN, total: int, segment_size: int, switch: bool = False) -> LSN:
    """The end of a record of `total` bytes at `start`: page headers lie in between."""
    if switch:  # an XLOG SWITCH fills the rest of its segment
        return LSN((int(start) // segment_size + 1) * segment_size)
    position, left = int(start), total
    while True:
        page_end = (position // PAGE + 1) * PAGE
        room = page_end - position
        if left <= room:
            position += left
            break
        left -= room
        position = page_end + (LONG_HEADER if page_end % segment_size == 0 else SHORT_HEADER)
    return LSN((position + 7) // 8 * 8)


def segment_name(timeline: int, number: int, segment_size: int) -> str:
    """The file of the `number`th segment, as xlog_internal.h's XLogFileName makes it."""
    per_id = 0x100000000 // segment_size
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def end_of_timeline(
    bin: Path, wal: Path, timeline: int, start: LSN, segment_size: int, timeout: float
) -> LSN | None:
    """The end of the last valid record at or after `start`; None where there is none."""
    last = int(start) // segment_size
    if not (wal / segment_name(timeline, last, segment_size)).exists():
        return None
    while (wal / segment_name(timeline, last + 1, segment_size)).exists():
        last += 1
    # With no end given, pg_waldump waits 5 s for a segment that is not there yet.
    stop = LSN((last + 1) * segment_size)
    dump = subprocess.Popen(
        [bin / "pg_waldump", "-p", wal, "-t", str(timeline), "-s", str(start), "-e", str(stop)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    tail = subprocess.Popen(["tail", "-n", "1"], stdin=dump.stdout, stdout=subprocess.PIPE)
    assert dump.stdout is not None
    dump.stdout.close()
    try:
        out, _ = tail.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as e:
        raise WalUnreadable(f"pg_waldump of {wal} took longer than {timeout:.1f} s") from e
    finally:
        for process in (dump, tail):
            if process.poll() is None:
                process.kill()
            process.wait()
    found = _RECORD.search(out)
    if found is None:
        return None
    at = LSN.parse(found[2].decode())
    return end_of_record(at, int(found[1]), segment_size, found[3].startswith(b"SWITCH"))
