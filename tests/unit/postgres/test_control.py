"""pg_controldata's words, whole and damaged; and backup_label."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgha.lsn import LSN
from pgha.postgres.control import Control, DirectoryError, Origin, origin, parse_control

pytestmark = pytest.mark.unit

TEXT = """\
pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7577281629465120805
Database cluster state:               in archive recovery
pg_control last modified:             Fri 27 Nov 2026 12:44:10 AM UTC
Latest checkpoint location:           0/3000098
Latest checkpoint's REDO location:    0/3000060
Latest checkpoint's REDO WAL file:    000000020000000000000003
Latest checkpoint's TimeLineID:       2
Latest checkpoint's PrevTimeLineID:   1
Latest checkpoint's full_page_writes: on
Minimum recovery ending location:     0/3000148
Min recovery ending loc's timeline:   3
Backup start location:                0/0
Backup end location:                  0/0
End-of-backup record required:        no
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              99
max_prepared_xacts setting:           2
max_locks_per_xact setting:           64
track_commit_timestamp setting:       off
Bytes per WAL segment:                16777216
Data page checksum version:           1
Mock authentication nonce:            2b8d
"""


def test_every_field() -> None:
    assert parse_control(TEXT) == Control(
        system_id=7577281629465120805, timeline=2, checkpoint=LSN(0x3000098), redo=LSN(0x3000060),
        min_recovery_end=LSN(0x3000148), min_recovery_timeline=3, state="in archive recovery",
        segment_size=16 << 20, data_checksums=True, wal_log_hints=True,
        limits={
            "max_connections": 100, "max_worker_processes": 8, "max_wal_senders": 99,
            "max_prepared_transactions": 2, "max_locks_per_transaction": 64,
        },
    )  # fmt: skip


@pytest.mark.parametrize(("state", "clean"), [
    ("shut down", True), ("shut down in recovery", True), ("in production", False),
    ("in crash recovery", False), ("in archive recovery", False), ("shutting down", False),
])  # fmt: skip
def test_what_is_a_clean_stop(state: str, clean: bool) -> None:
    assert parse_control(TEXT.replace("in archive recovery", state)).cleanly_stopped is clean


def test_a_wrong_checksum_is_no_control_file() -> None:
    warned = "WARNING: Calculated CRC checksum does not match value stored in file.\n" + TEXT
    with pytest.raises(DirectoryError, match="corrupt"):
        parse_control(warned)


@given(st.data())
def test_a_damaged_output_is_refused_or_read(data: st.DataObject) -> None:
    """Lines that are missing, cut, doubled or overwritten: never anything but DirectoryError."""
    lines = TEXT.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        n = data.draw(st.integers(0, len(lines) - 1))
        line = lines[n]
        lines[n] = data.draw(st.sampled_from([
            "", line[: data.draw(st.integers(0, len(line)))], line + line,
            line.partition(":")[0] + ": " + data.draw(st.text(max_size=20)),
        ]))  # fmt: skip
    try:
        control = parse_control("\n".join(lines))
    except DirectoryError:
        return
    assert control.segment_size & (control.segment_size - 1) == 0 < control.segment_size


@given(st.text(max_size=400))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(DirectoryError):
        parse_control(text)


def test_recovery_begins_at_the_checkpoint(tmp_path: Path) -> None:
    assert origin(tmp_path, parse_control(TEXT)) == Origin(2, LSN(0x3000060), LSN(0x3000098))


def test_a_label_comes_before_the_control_file(tmp_path: Path) -> None:
    (tmp_path / "backup_label").write_text(
        "START WAL LOCATION: 0/2000028 (file 00000001000000000000000A)\n"
        "CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\n"
    )
    at = LSN(0x2000028)
    assert origin(tmp_path, parse_control(TEXT)) == Origin(1, at, at)


@pytest.mark.parametrize("text", ["", "START WAL LOCATION: x (file y)\n", "\x00" * 100])
def test_a_damaged_label_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "backup_label").write_text(text)
    with pytest.raises(DirectoryError, match="clone"):
        origin(tmp_path, parse_control(TEXT))
