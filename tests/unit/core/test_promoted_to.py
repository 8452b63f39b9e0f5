"""The timeline of a promotion by PostgreSQL's own files, where no session is to be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgha.facts import Data, DataView
from pgha.lsn import LSN, History, Position, Switch
from pgha.member import Member
from pgha.postgres.control import Control, DirectoryError
from pgha.postgres.directory import Directory

pytestmark = pytest.mark.unit

BEFORE = History((Switch(1, LSN(0x3000)),))
END = Position(2, LSN(0x5000))
OWN = History((*BEFORE, Switch(2, END.lsn)))


class Disk(Directory):
    """pg_control as it says, and the history files that PostgreSQL wrote."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "pgdata", folder)
        self.state, self.checkpoint, self.recovered = "in production", 2, 4
        (self.pgdata / "pg_wal").mkdir(parents=True)
        self.wrote(4, OWN)

    def wrote(self, timeline: int, history: History) -> None:
        path = self.pgdata / "pg_wal" / f"{timeline:08X}.history"
        path.write_text(history.text().replace("pgha", "no recovery target specified"))

    def control(self) -> Control:
        if not self.state:
            raise DirectoryError("the control file is corrupt")
        at = LSN(0x6000)
        return Control(
            7, self.checkpoint, at, at, at, self.recovered, self.state, 1 << 24, True, True, {}
        )


class Ground:
    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder)
        data = DataView(Data.READY, timeline=2, history=BEFORE, end=END)
        self.member = Member(self.disk, data=data)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    made = Ground(tmp_path)
    assert made.member.promoted_to() == 4
    return made


def test_the_first_checkpoint_says_it_as_well(ground: Ground) -> None:
    ground.disk.checkpoint, ground.disk.recovered = 4, 0
    assert ground.member.promoted_to() == 4


@pytest.mark.parametrize("state", ["in archive recovery", "shutting down", "shut down", ""])
def test_nothing_is_proven_before_recovery_has_ended(ground: Ground, state: str) -> None:
    """Nor by a history file: it is written before the end, and a stub long before."""
    ground.disk.state = state
    assert ground.member.promoted_to() == 0


def test_the_timeline_of_before_is_no_promotion(ground: Ground) -> None:
    ground.disk.recovered = 2
    ground.disk.wrote(2, BEFORE)
    assert ground.member.promoted_to() == 0


def test_a_stub_is_not_taken_for_the_timeline(ground: Ground) -> None:
    """It holds a number that PostgreSQL is to pass over."""
    ground.disk.stub_history(3, BEFORE, 2, END.lsn)
    assert ground.member.promoted_to() == 4
    ground.disk.recovered = 2
    assert ground.member.promoted_to() == 0


@pytest.mark.parametrize("history", [
    History(),
    History((Switch(1, LSN(0x4000)), Switch(2, END.lsn))),  # another ancestor
    History((*BEFORE, Switch(2, LSN(0x4000)))),  # it left before this directory's end
])
def test_another_history_under_that_number_proves_nothing(
    ground: Ground, history: History
) -> None:
    ground.disk.wrote(4, history)
    assert ground.member.promoted_to() == 0


def test_without_the_file_or_the_end_nothing_is_proven(ground: Ground) -> None:
    (ground.disk.pgdata / "pg_wal" / "00000004.history").unlink()
    assert ground.member.promoted_to() == 0
    ground.disk.wrote(4, OWN)
    ground.member.set_end(None)
    assert ground.member.promoted_to() == 0
