"""The owner mark on a disk that is full, and in a container that was started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgha import owner
from pgha.owner import Ownership
from pgha.settings import Identity
from tests.unit.pgha.passing import Disk

pytestmark = pytest.mark.unit

FIRST, AGAIN, OTHER = (
    Identity("c-0", "u0", "s1"), Identity("c-0", "u0", "s2"), Identity("c-0", "u1", "s3")
)
PATIENCE = 15.0


class Ground:
    def __init__(self, folder: Path) -> None:
        (folder / "pgdata").mkdir()
        self.disk, self.now = Disk(folder / "pgdata", folder), 100.0

    def agent(self, identity: Identity, alone: bool = True) -> Ownership:
        return Ownership(self.disk, identity, PATIENCE, alone)


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    made = Ground(tmp_path)
    monkeypatch.setattr(owner, "boottime", lambda: made.now)
    return made


def test_the_mark_of_the_same_pod_is_not_foreign_though_it_cannot_be_refreshed(
    ground: Ground,
) -> None:
    assert not ground.agent(FIRST).foreign
    ground.disk.full = True
    assert not ground.agent(AGAIN).foreign


def test_a_mark_of_another_pod_stays_foreign_on_a_full_disk(ground: Ground) -> None:
    ground.agent(FIRST)
    ground.disk.full = True
    other = ground.agent(OTHER)
    ground.now += 2 * PATIENCE
    other.check()
    assert other.foreign  # without a mark of its own nobody would know of it


def test_a_former_container_whose_processes_may_live_is_waited_for(ground: Ground) -> None:
    """They hold the lock that PostgreSQL inherits: kubelet's word is not enough then."""
    former = ground.agent(FIRST)
    again = ground.agent(AGAIN, alone=False)
    for _ in range(10):
        ground.now += 3.0
        former.check()
        again.check()
        assert again.foreign and not former.foreign
    ground.now += PATIENCE
    again.check()
    assert not again.foreign


def test_leaving_a_full_disk_raises_nothing(ground: Ground) -> None:
    former = ground.agent(FIRST)
    ground.disk.full = True
    former.end()
    ground.disk.full = False
    other = ground.agent(OTHER)
    assert other.foreign
    ground.now += PATIENCE
    other.check()
    assert not other.foreign
