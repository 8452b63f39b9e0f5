"""The owner mark on a disk that is full, in a container that was started again, and beside the lock
of the directory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pgha import owner
from pgha.arrival import wait
from pgha.owner import Ownership
from pgha.postgres.lock import DirectoryLock, Lock
from pgha.settings import Identity
from tests.unit.pgha.passing import Disk

pytestmark = pytest.mark.unit

FIRST, AGAIN, OTHER = (
    Identity("c-0", "u0", "s1"), Identity("c-0", "u0", "s2"), Identity("c-0", "u1", "s3")
)
PATIENCE = 15.0


class Held(DirectoryLock):
    """At one place, got or not as it is told."""

    def __init__(self, state: Lock = Lock.NONE, place: str | None = None) -> None:
        self.state, self.place = state, place

    def take(self) -> Lock:
        return self.state


class Ground:
    def __init__(self, folder: Path) -> None:
        (folder / "pgdata").mkdir()
        self.disk, self.now = Disk(folder / "pgdata", folder), 100.0

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def agent(
        self, identity: Identity, alone: bool = True, lock: Held | None = None
    ) -> Ownership:
        return Ownership(self.disk, lock or Held(), identity, PATIENCE, alone)


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
    # Without a mark of its own nobody would know of it.
    assert "cannot be read or written" in other.foreign
    assert "No space left" in other.foreign


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


def test_who_has_the_lock_at_the_place_of_the_mark_need_not_wait(ground: Ground) -> None:
    ground.agent(FIRST, lock=Held(Lock.OURS, "boot 1"))
    other = ground.agent(OTHER, lock=Held(Lock.OURS, "boot 1"))
    assert not other.foreign
    assert other.gone == {"u0", "u1"}, "the lease of the former pod is its own to take back"
    third = ground.agent(Identity("c-0", "u2", "s4"), lock=Held(Lock.OURS, "boot 1"))
    assert third.gone == {"u0", "u1", "u2"}
    container = ground.agent(Identity("c-0", "u2", "s5"), lock=Held(Lock.OURS, "boot 1"))
    assert container.gone == third.gone, "what is gone stays gone"
    container.end()
    fourth = ground.agent(Identity("c-0", "u3", "s6"), lock=Held(Lock.OURS, "boot 1"))
    assert fourth.gone == {"u0", "u1", "u3"}, "of u2 nobody knows: it left by itself"


@pytest.mark.parametrize("place", ["boot 2", "another boot 1", None])
def test_a_lock_of_another_place_proves_nothing(ground: Ground, place: str | None) -> None:
    ground.agent(FIRST, lock=Held(Lock.OURS, "boot 1"))
    other = ground.agent(OTHER, lock=Held(Lock.OURS if place else Lock.NONE, place))
    assert other.foreign
    assert other.gone == {"u1"}
    ground.now += PATIENCE
    other.check()
    assert not other.foreign
    assert other.gone == {"u1"}, "an old mark says nothing of the former pod's lease"


def test_a_mark_that_was_made_without_the_lock_proves_nothing(ground: Ground) -> None:
    """What its agent has started has no part in the lock either."""
    ground.agent(FIRST, lock=Held(Lock.NONE, "boot 1"))
    assert ground.agent(OTHER, lock=Held(Lock.OURS, "boot 1")).foreign


def test_a_directory_whose_lock_is_taken_is_foreign_however_old_the_mark(ground: Ground) -> None:
    ground.agent(FIRST, lock=Held(Lock.OURS, "boot 1"))
    lock = Held(Lock.TAKEN, "boot 1")
    other = ground.agent(OTHER, lock=lock)
    ground.now += 10 * PATIENCE
    other.check()
    assert "still run on this node" in other.foreign
    lock.state = Lock.OURS
    other.check()
    assert not other.foreign


def test_the_former_pod_is_known_to_be_gone_on_a_full_disk_too(ground: Ground) -> None:
    ground.agent(FIRST, lock=Held(Lock.OURS, "boot 1"))
    ground.disk.full = True
    other = ground.agent(OTHER, lock=Held(Lock.OURS, "boot 1"))
    assert not other.foreign
    assert other.gone == {"u0", "u1"}


def test_a_former_container_that_may_live_is_not_gone(ground: Ground) -> None:
    assert ground.agent(AGAIN, alone=False).gone == frozenset()


def test_without_the_lock_that_its_mark_names_a_restarted_container_waits(ground: Ground) -> None:
    """Another pod may have the lock, and go by the mark that says who had it before."""
    ground.agent(FIRST, lock=Held(Lock.OURS, "boot 1"))
    again = ground.agent(AGAIN, lock=Held())
    assert again.foreign
    ground.now += PATIENCE
    again.check()
    assert not again.foreign
    assert not ground.agent(AGAIN, lock=Held()).foreign, "its own mark names no lock"


def test_a_mark_that_becomes_anothers_is_lost_for_good(ground: Ground) -> None:
    lost = threading.Event()
    made = ground.agent(FIRST)
    ground.disk.write_note("owner", {"uid": "u1", "start": "s3", "counter": 1})
    made.start(lost.set)
    assert lost.wait(10)
    ground.now += 2 * PATIENCE
    for thread in threading.enumerate():
        if thread.name == "owner-mark":
            thread.join(10)
            assert not thread.is_alive()
    assert "u1" in made.foreign
    assert (ground.disk.read_note("owner") or {})["uid"] == "u1"


def test_whoever_waits_says_why_until_the_directory_is_its_own(ground: Ground) -> None:
    ground.agent(FIRST, lock=Held(Lock.OURS, "boot 1"))
    lock = Held(Lock.TAKEN, "boot 1")
    other = ground.agent(OTHER, lock=lock)
    told: list[str] = []

    def passes(seconds: float) -> None:
        ground.now += seconds
        if ground.now > 103:
            lock.state = Lock.OURS

    assert wait(other, told.append, lambda: False, passes)
    assert len(told) == 1
    assert "still run on this node" in told[0]
    assert 103 < ground.now < 104


def test_a_pod_that_ends_while_it_waits_takes_nothing(ground: Ground) -> None:
    ground.agent(FIRST)
    other = ground.agent(OTHER)
    assert not wait(other, lambda why: None, lambda: ground.now > 102, ground.passes)
    assert (ground.disk.read_note("owner") or {})["uid"] == "u0"
