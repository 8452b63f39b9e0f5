"""A turn of the agent: what goes wrong in one neither ends the agent at once nor is looped on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgha import agent
from pgha.executor import NotWritten
from pgha.facts import Facts, Job, Tenure
from pgha.loop import KEEP_AGAIN, PAUSE_AFTER_FAILURE, Loop
from pgha.member import Member
from pgha.settings import Times
from tests.unit.pgha.by_hand import primary, standby
from tests.unit.pgha.passing import Disk

pytestmark = pytest.mark.unit

TIMES = Times()
PATIENCE, RETRY = TIMES.renew_deadline, TIMES.retry_period  # seconds
NEWER = replace(primary(), lease=replace(
    primary().lease, record=replace(primary().record, revision=9)
))


class Ground:
    """A real loop and member; facts and deeds are given by the test."""

    def __init__(self, folder: Path) -> None:
        (folder / "pgdata").mkdir()
        self.disk = Disk(folder / "pgdata", folder)
        self.disk.full = True
        self.now, self.logged, self.done = 100.0, [], []  # type: tuple[float, list[Any], list[Any]]
        self.settled: list[Facts] = []
        self.facts: Callable[[], Facts] = lambda: NEWER
        self.perform: Callable[[object, Facts], None] = lambda action, _: self.done.append(action)
        given: Any = SimpleNamespace(
            facts=lambda: self.facts(), settle=lambda facts: self.settled.append(facts),
            perform=lambda action, facts: self.perform(action, facts),
            decided=lambda *_: False, measure=lambda *_: None, eager=False,
            log=lambda event, **said: self.logged.append((event, said)),
        )
        self.loop = Loop(
            Member(self.disk), given, given, given, given, given, given, TIMES,
            lambda: self.now,
        )

    def events(self) -> list[str]:
        return [event for event, _ in self.logged]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_each_turn_looks_whether_there_is_anything_to_fence(ground: Ground) -> None:
    ground.loop.turn()
    ground.facts = standby
    ground.loop.turn()
    assert ground.settled == [NEWER, standby()]


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


def raises(_: object = None, __: object = None) -> Any:
    raise RuntimeError("dictionary changed size during iteration")


def test_one_turn_that_fails_is_said_and_does_not_end_the_agent(ground: Ground) -> None:
    ground.facts = raises
    assert ground.loop.turn() == PAUSE_AFTER_FAILURE
    assert ground.events() == ["turn-failed"] and "test_loop.py" in ground.logged[0][1]["where"]
    ground.facts = lambda: NEWER
    ground.now += 60.0
    assert ground.loop.turn() == 2.0 and ground.loop.last is not None
    ground.facts = raises
    assert ground.loop.turn() == PAUSE_AFTER_FAILURE  # counted from here


def test_an_agent_that_cannot_decide_any_more_ends(ground: Ground) -> None:
    """It would renew the lease and heed neither its loss nor a SIGTERM; a new one is started."""
    ground.facts = raises
    ground.loop.turn()
    ground.now += PATIENCE - 0.1
    ground.loop.turn()
    ground.now += 0.2
    with pytest.raises(RuntimeError):
        ground.loop.turn()


def test_the_process_ends_at_once_though_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's own end waits for threads, and one of them renews the lease."""
    ended: list[int] = []
    monkeypatch.setattr("pgha.agent.os._exit", ended.append)
    agent.end_of(raises)
    assert ended == [1]
    agent.end_of(lambda: None)
    assert ended == [1]


def cancelled() -> Facts:
    """Rule birth-without-lease, again and again, until the job has ended."""
    f = standby()
    return replace(f, job=Job("initdb", running=True))


def test_a_decision_that_is_made_again_does_not_spin(ground: Ground) -> None:
    ground.facts = cancelled
    naps = [ground.loop.turn() for _ in range(4)]
    assert naps == [0.002, 0.1, 0.1, 0.1] and len(ground.done) == 4


def test_a_record_that_is_not_written_is_tried_again_soon_and_then_less_often(
    ground: Ground,
) -> None:
    def refused(action: object, facts: Facts) -> None:
        raise NotWritten("too many requests")

    ground.facts, ground.perform = cancelled, refused
    naps = []
    for _ in range(8):
        naps.append(ground.loop.turn())
        ground.now += naps[-1]
    assert naps == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, RETRY, RETRY])


def test_the_end_of_the_tenure_is_not_slept_through(ground: Ground) -> None:
    def refused(action: object, facts: Facts) -> None:
        raise NotWritten("too many requests", asked=5.0)

    leaves = replace(NEWER, leaving=True, tenure=Tenure(4, 0.3, 50.0))
    ground.facts, ground.perform = lambda: leaves, refused
    assert ground.loop.turn() == 0.3
