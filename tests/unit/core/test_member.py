"""What a member keeps of the record, and of its own position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pgha.lsn import LSN, History, Position
from pgha.member import Member
from pgha.postgres.directory import Directory
from pgha.record import Record

pytestmark = pytest.mark.unit

RECORD = Record(term=7, revision=31, init="initialized")


@pytest.mark.parametrize("kept, given, outdates", [
    ((7, 31), (7, 31), True),
    ((7, 31), (7, 32), True),
    ((7, 31), (8, 2), True),
    ((7, 31), (7, 30), False),
    ((7, 31), (6, 99), False),
])
def test_an_older_record_never_replaces_a_kept_one(
    tmp_path: Path, kept: tuple[int, int], given: tuple[int, int], outdates: bool
) -> None:
    (tmp_path / "pgdata").mkdir()
    member = Member(Directory(tmp_path / "pgdata", tmp_path))
    first, second = (replace(RECORD, term=t, revision=r) for t, r in (kept, given))
    member.remember(first)
    member.remember(second)
    note = member.directory.read_note("record")
    assert note == {"record": (second if outdates else first).dump()}


def test_a_record_that_is_kept_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor asks for it before it acts, and the loop with every turn: a flush each time."""
    (tmp_path / "pgdata").mkdir()
    member = Member(Directory(tmp_path / "pgdata", tmp_path))
    written: list[str] = []
    monkeypatch.setattr(member.directory, "write_note", lambda name, _: written.append(name))
    for _ in range(3):
        member.remember(RECORD)
    assert written == ["record"]
    member.remember(replace(RECORD, revision=32))
    assert written == ["record", "record"]


class Searched(Directory):
    """Remembers from where the end of WAL was searched."""

    def __init__(self, pgdata: Path) -> None:
        super().__init__(pgdata, pgdata)
        self.searched: list[LSN | None] = []

    def end_of_wal(self, timeout: float, flushed: LSN | None = None) -> Position:
        self.searched.append(flushed)
        return Position(1, LSN(0x5000))

    def history(self, timeline: int) -> History:
        return History()


def test_the_end_is_searched_from_what_was_flushed_and_not_in_a_directory_of_another_history(
    tmp_path: Path,
) -> None:
    directory = Searched(tmp_path / "pgdata")
    member = Member(directory)
    member.flushed = LSN(0x4000)
    member.read_end(1.0)
    member.look()  # after a copy the same position says nothing
    member.read_end(1.0)
    assert directory.searched == [LSN(0x4000), None]
