"""A turn of the agent: what goes wrong in one neither ends the agent at once nor is looped on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgha.facts import Facts
from pgha.loop import KEEP_AGAIN, Loop
from pgha.member import Member
from pgha.postgres.directory import Directory
from tests.unit.pgha.by_hand import primary

pytestmark = pytest.mark.unit

NEWER = replace(primary(), lease=replace(
    primary().lease, record=replace(primary().record, revision=9)
))


class Disk(Directory):
    """Refuses what is written while it is full."""

    full = True
    tried = 0

    def write_note(self, name: str, note: dict[str, Any]) -> None:
        self.tried += 1
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        super().write_note(name, note)


class Ground:
    """A real loop and member; facts and deeds are given by the test."""

    def __init__(self, folder: Path) -> None:
        (folder / "pgdata").mkdir()
        self.disk = Disk(folder / "pgdata", folder)
        self.now, self.logged, self.done = 100.0, [], []  # type: tuple[float, list[Any], list[Any]]
        self.facts: Callable[[], Facts] = lambda: NEWER
        self.perform: Callable[[object, Facts], None] = lambda action, _: self.done.append(action)
        given: Any = SimpleNamespace(
            facts=lambda: self.facts(),
            perform=lambda action, facts: self.perform(action, facts),
            decided=lambda *_: False, measure=lambda *_: None, eager=False,
            log=lambda event, **said: self.logged.append((event, said)),
        )
        self.loop = Loop(
            Member(self.disk), given, given, given, given, given, given, clock=lambda: self.now
        )

    def events(self) -> list[str]:
        return [event for event, _ in self.logged]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_full_disk_ends_no_turn(ground: Ground) -> None:
    """The record is kept where there is room; that is said once and tried again after a while."""
    for _ in range(5):
        assert ground.loop.turn() == 2.0  # rule primary
    assert ground.disk.tried == 1 and ground.events() == ["record-not-kept"]
    assert "make room" in ground.logged[0][1]["why"]
    ground.now += KEEP_AGAIN
    ground.loop.turn()
    assert ground.disk.tried == 2 and ground.events() == ["record-not-kept"]


def test_the_record_is_kept_once_there_is_room(ground: Ground) -> None:
    ground.loop.turn()
    ground.disk.full = False
    ground.now += KEEP_AGAIN
    for _ in range(3):
        ground.loop.turn()
    assert ground.disk.read_note("record") == {"record": NEWER.record.dump()}
    assert ground.disk.tried == 2
