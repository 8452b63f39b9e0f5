"""What a vote rests on: the position that is told is the last thing that was received."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgha.facts import Data, DataView
from pgha.jobs import Jobs
from pgha.lsn import LSN, Position
from pgha.member import Member
from pgha.postgres.directory import Directory
from pgha.postgres.server import Server, ServerState
from pgha.voting import Voting

pytestmark = pytest.mark.unit

END = Position(1, LSN(0x5000))


class Standby(Server):
    """Remembers what it was asked for, in which order; a receiver comes when it is told so."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory, directory.pgdata, directory.pgdata)
        self.order: list[str] = []
        self.state, self.ends, self.late = ServerState.STANDBY, True, False

    def poll(self) -> ServerState:
        return self.state

    def detach(self, timeout: float) -> bool:
        self.order.append("detached")
        return self.ends

    def receives(self) -> bool:
        self.order.append("looked")
        return self.late


class Ground:
    def __init__(self, folder: Path) -> None:
        directory = Directory(folder / "pgdata", folder)
        self.server = Standby(directory)
        self.member = Member(directory, data=DataView(Data.READY, timeline=1))
        self.member.attached_to = "a-0"
        self.voting = Voting(self.member, self.server, Jobs({}, lambda: None, lambda *_: None))
        directory.end_of_wal = self.read  # type: ignore[method-assign]

    def read(self, timeout: float, flushed: LSN | None = None) -> Position:
        self.server.order.append("read")
        return END

    def vote(self) -> tuple[Position | None, str]:
        return self.voting.detach_and_read(1.0)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_receiver_is_looked_for_again_after_the_end_was_read(ground: Ground) -> None:
    assert ground.vote() == (END, "")
    assert ground.server.order == ["detached", "read", "looked"]
    assert ground.member.attached_to is None


def test_a_receiver_that_ran_meanwhile_is_no_vote(ground: Ground) -> None:
    ground.server.late = True
    position, why = ground.vote()
    assert position is None and "receiver" in why
    assert ground.member.data.end is None, "it may have written more: the end is not known"


def test_what_does_not_detach_is_not_read(ground: Ground) -> None:
    ground.server.ends = False
    assert ground.vote() == (None, "the receiver did not end in time")
    assert ground.server.order == ["detached"]


def test_a_stopped_server_needs_no_detaching(ground: Ground) -> None:
    ground.server.state = ServerState.STOPPED
    assert ground.vote() == (END, "")
    assert "detached" not in ground.server.order


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": ServerState.PRIMARY}, "primary"),
        ({"promoting": 3}, "primary"),
        ({"data": DataView(Data.DIRTY)}, "dirty"),
    ],
)
def test_who_has_no_position_does_not_vote(
    ground: Ground, changes: dict[str, Any], why: str
) -> None:
    for name, value in changes.items():
        setattr(ground.server if name == "state" else ground.member, name, value)
    position, said = ground.vote()
    assert position is None and why in said
    assert ground.server.order == []
