"""A primary on a full disk: it stops in good order, or ends, and a standby has every byte of it.

In good order it stops only while some room is left: at none a checkpoint ends with PANIC, the one
of a fast stop too. That is why a primary moves early (rules/room.py).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from pgha.owner import Ownership
from pgha.postgres.directory import Directory
from pgha.postgres.lock import DirectoryLock
from pgha.postgres.server import ServerState
from pgha.rules import room
from pgha.settings import Identity
from tests.integration.postgres.inside import SMALL, Place
from tests.integration.postgres.nodes import Node, eventually, one_version

pytestmark = pytest.mark.integration

WITHIN = 30.0  # seconds


PIECE = 64 * 1024  # bytes; room for postmaster.pid
LITTLE = 4 * 1024 * 1024  # bytes; no room for a WAL segment


def crowded(free: int) -> tuple[Node, Node]:
    """A primary with that many bytes free, and its standby on a disk with room."""
    primary = Node("ha-0", base=SMALL / "ha-0").leading()
    primary.ask("CREATE TABLE kept AS SELECT generate_series(1, 100) n")
    standby = Node("ha-1", port=5433).following(primary)
    assert not room.short(standby.directory.free_bytes())
    fill(free)
    assert room.short(primary.directory.free_bytes())
    return primary, standby


def fill(free: int) -> None:
    """The small disk, up to that many bytes."""
    ballast = os.open(SMALL / "ballast", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(ballast, b"x" * 4096)
    os.truncate(ballast, os.fstat(ballast).st_size - free)
    os.close(ballast)


def has_all_of(standby: Node, primary: Node) -> None:
    assert standby.server.detach(5.0)
    assert standby.directory.end_of_wal(WITHIN) == primary.directory.end_of_wal(WITHIN)


@one_version
def test_a_fast_stop_ends_in_good_order_and_the_standby_has_its_checkpoint(image: Place) -> None:
    primary, standby = crowded(LITTLE)
    primary.ask("INSERT INTO kept SELECT 101")
    assert primary.server.stop("fast", WITHIN)
    assert primary.directory.control().cleanly_stopped
    has_all_of(standby, primary)
    standby.promoted()
    assert standby.ask("SELECT count(*) FROM kept") == 101


@one_version
def test_without_any_room_a_fast_stop_is_a_crash_and_the_standby_has_all(image: Place) -> None:
    primary, standby = crowded(0)
    standby.catches_up(primary)
    assert primary.server.stop("fast", WITHIN)
    assert not primary.directory.control().cleanly_stopped
    has_all_of(standby, primary)


@one_version
def test_without_room_for_a_segment_it_can_be_read_but_not_promoted(image: Place) -> None:
    primary, standby = crowded(LITTLE)
    with primary.connect() as connection, suppress(psycopg.Error):
        while True:
            connection.execute("SELECT pg_logical_emit_message(true, 'x', repeat('y', 1000000))")
    eventually("it ended", lambda: primary.server.poll() is ServerState.STOPPED)
    assert primary.server.kill(WITHIN)
    standby.crash()
    (SMALL / "more").write_bytes(b"x" * (primary.directory.free_bytes() - PIECE))
    primary.started()  # what is here is not lost: it can be shown to others
    primary.server.promote()
    eventually("it ended", lambda: primary.server.poll() is ServerState.STOPPED)


@one_version
def test_votes_and_marks_are_written_on_a_full_disk(image: Place) -> None:
    directory = Directory(SMALL / "ha-0" / "pgdata", Path("/nowhere"))
    directory.pgdata.mkdir(parents=True)
    directory.write_note("owner", {"uid": "of the former pod", "start": "s", "counter": 1})
    fill(0)
    with pytest.raises(OSError, match="No space left"):
        (SMALL / "another").write_bytes(b"x" * 4096)
    for term in range(20):
        directory.write_note("vote", {"term": term})
    assert directory.read_note("vote") == {"term": 19}
    made_anew = Identity("ha-0", "of the new pod", "s")
    lock = DirectoryLock(directory.notes)
    assert not Ownership(directory, lock, made_anew, patience=0.0, alone=False).foreign
