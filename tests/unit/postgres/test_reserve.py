"""The reserve of a disk: freed for a note that finds no room, and made again where there is."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pgha.postgres import directory, reserve
from pgha.postgres.directory import Directory
from pgha.postgres.reserve import AMPLE, NAME, SIZE

pytestmark = pytest.mark.unit


class Full:
    """`write_durably` of a disk without room until the reserve is freed."""

    def __init__(self, kept: Path, number: int = errno.ENOSPC) -> None:
        self._kept, self._number = kept, number
        self._real = directory.write_durably

    def __call__(self, path: Path, content: bytes) -> None:
        if self._kept.exists() or self._number == errno.EIO:
            raise OSError(self._number, os.strerror(self._number))
        self._real(path, content)


@pytest.fixture
def member(tmp_path: Path) -> Directory:
    made = Directory(tmp_path / "pgdata", tmp_path)
    made.write_note("vote", {"term": 1})
    return made


def test_it_is_there_from_the_first_note_on(member: Directory) -> None:
    found = (member.notes / NAME).stat()
    assert (found.st_size, found.st_mode & 0o777) == (SIZE, 0o600)
    assert found.st_blocks * 512 >= SIZE, "no hole: the room is taken"


def test_a_note_without_room_takes_it(
    member: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "write_durably", Full(member.notes / NAME))
    member.write_note("vote", {"term": 2})
    assert member.read_note("vote") == {"term": 2}
    assert not (member.notes / NAME).exists()


def test_another_error_takes_nothing(member: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "write_durably", Full(member.notes / NAME, errno.EIO))
    with pytest.raises(OSError):
        member.write_note("vote", {"term": 2})
    assert (member.notes / NAME).exists()


def test_without_it_a_full_disk_refuses_as_ever(
    member: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (member.notes / NAME).unlink()
    monkeypatch.setattr(directory, "write_durably", Full(member.notes))
    with pytest.raises(OSError, match="No space left"):
        member.write_note("vote", {"term": 2})


@pytest.mark.parametrize(("free", "made"), [(AMPLE, True), (AMPLE - 4096, False)])
def test_it_is_made_again_where_there_is_ample_room(
    free: int, made: bool, member: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (member.notes / NAME).unlink()
    room = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(reserve.os, "statvfs", lambda path: room)
    member.write_note("vote", {"term": 2})
    assert (member.notes / NAME).exists() is made


def test_an_allocation_that_fails_leaves_nothing(
    member: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (member.notes / NAME).unlink()
    monkeypatch.setattr(reserve.os, "posix_fallocate", full)
    member.write_note("vote", {"term": 2})
    assert not (member.notes / NAME).exists()
