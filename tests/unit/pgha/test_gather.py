"""What the gatherer learns of the own PostgreSQL beyond its state."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgha.gather import Gatherer
from pgha.lsn import LSN
from pgha.member import Member
from pgha.postgres.directory import Directory
from pgha.postgres.server import Receiver, Server, ServerState
from pgha.postgres.sql import Alive, Look, Sql
from pgha.pulse import Pulse
from pgha.record import Record

pytestmark = pytest.mark.unit


class Here(Server):
    """A server in whatever state a test puts it."""

    state, received = ServerState.PRIMARY, None

    def poll(self) -> ServerState:
        return self.state

    def receiver(self) -> Receiver | None:
        return self.received


class Disk(Sql):
    """A primary whose write path answers as a test wants it."""

    answer = Alive.IO_ERROR

    def look(self, timeout: float) -> Look:
        return Look(self.answer)

    def timeline(self, timeout: float) -> int | None:
        return None


class Ground:
    def __init__(self, folder: Path) -> None:
        directory = Directory(folder / "pgdata", folder)
        self.server = Here(directory, folder, folder)
        self.member, self.sql = Member(directory), Disk(folder, "postgres")
        self.said: list[str] = []
        self.recalled: list[Record] = []
        self.pulse = Pulse(
            self.sql, is_primary=lambda: self.server.state is ServerState.PRIMARY,
            timeline=lambda: 1, directory_of=lambda name, since: None,
            wanted=lambda: (0, frozenset()), wake=lambda: None,
        )
        rest: dict[str, Any] = dict.fromkeys(Gatherer.__dataclass_fields__)
        del rest["_was"]
        rest.update(
            member=self.member, server=self.server, sql=self.sql, pulse=self.pulse,
            ear=SimpleNamespace(silent=lambda term: None),
            keeper=SimpleNamespace(recall=self.recalled.append),
            log=lambda what, **_: self.said.append(what),
        )
        self.gatherer = Gatherer(**rest)

    def turn(self, state: ServerState, flushed: int | None = None, attached: bool = False) -> str:
        """Why this member is ill after a turn in that state; empty if it is not."""
        self.server.state = state
        self.member.attached_to = "a-1" if attached else None
        self.server.received = Receiver(9, LSN(flushed) if flushed else None) if attached else None
        self.gatherer._run(False, 1)
        return self.pulse.ill(10.0) or ""


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    made = Ground(tmp_path)
    made.turn(ServerState.PRIMARY)
    made.pulse._take()
    return made


def test_an_io_error_is_over_once_a_standby_has_flushed_what_it_received(ground: Ground) -> None:
    assert "I/O error" in ground.turn(ServerState.PRIMARY)
    assert ground.turn(ServerState.STANDBY, 0x5000, attached=True) == ""
    assert ground.said == ["io-error-over"]
    ground.turn(ServerState.STANDBY, 0x6000, attached=True)
    assert ground.said == ["io-error-over"], "once"


@pytest.mark.parametrize("state, attached", [
    (ServerState.STOPPED, False),
    (ServerState.STARTING, False),
    (ServerState.RECOVERING, True),  # it writes, but is not consistent: its files may not be read
    (ServerState.STANDBY, False),
    (ServerState.STANDBY, True),  # a receiver that has flushed nothing yet
])
def test_a_restart_alone_does_not_end_an_io_error(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, state: ServerState, attached: bool
) -> None:
    """The lease would come straight back to the disk that made this member give it up."""
    monkeypatch.setattr(ground.gatherer, "_ended", lambda: None)
    flushed = 0x5000 if state is ServerState.RECOVERING else None
    assert "I/O error" in ground.turn(state, flushed, attached)


def test_an_agent_that_starts_goes_on_from_the_record_that_it_kept(tmp_path: Path) -> None:
    kept = Record(term=6, revision=40, init="initialized", system_id=7)
    Member(Directory(tmp_path / "pgdata", tmp_path)).remember(kept)
    assert Ground(tmp_path).recalled == [kept]


def test_a_promotion_is_seen_though_clients_keep_every_session_out(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = 0
    monkeypatch.setattr(ground.member, "promoted_to", lambda: proven)
    ground.turn(ServerState.STANDBY)
    ground.member.promoting = 3
    ground.turn(ServerState.PRIMARY)
    assert ground.member.primary_timeline == 0, "neither PostgreSQL nor its disk says so"
    proven = 3
    ground.turn(ServerState.STANDBY)
    assert ground.member.primary_timeline == 0, "it is no primary yet"
    ground.turn(ServerState.PRIMARY)
    assert ground.member.primary_timeline == 3 and ground.member.data.timeline == 3
