"""For how long too few standbys have been heard: from their replies, not from their connections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pgha import pulse as pulses
from pgha.lsn import LSN
from pgha.postgres.sql import Alive, Look, Sender, Sql
from pgha.pulse import CALM, EAGER, UNWATCHED_AFTER, Pulse

pytestmark = pytest.mark.unit

NAMES = 'ANY 1 ("a-1","a-2")'
WAL_SENDER_TIMEOUT = 10.0  # seconds; as conf.settings has it


class Primary(Sql):
    """What a look shows. A standby that is cut off stays listed as one that streams."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "postgres")
        self.flush = 1000
        self.silent_since: dict[str, float | None] = {"a-1": None, "a-2": None}
        self.now = 100.0

    def look(self, timeout: float) -> Look:
        self.flush += 10
        senders = []
        for pid, (name, since) in enumerate(self.silent_since.items()):
            age = 0.0 if since is None else self.now - since
            flush = LSN(self.flush if since is None else 1000)
            if age < WAL_SENDER_TIMEOUT:
                senders.append(Sender(name, pid, "streaming", "quorum", flush, age))
        return Look(Alive.ALIVE, NAMES, LSN(self.flush), tuple(senders))


class Ground:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sql = Primary(folder)
        monkeypatch.setattr(pulses, "boottime", lambda: self.sql.now)
        self.pulse = Pulse(
            self.sql, is_primary=lambda: True, timeline=lambda: 1,
            directory_of=lambda name, since: f"d-{name}",
            wanted=lambda: (1, frozenset({"a-1", "a-2"})), wake=lambda: None,
        )
        self.pulse.begin()
        for _ in range(3):
            self.look(CALM)

    def look(self, after: float) -> float:
        self.sql.now += after
        self.pulse._take()
        return self.pulse.replication.missing_for

    def caught_up(self) -> set[str]:
        return {s.name for s in self.pulse.replication.senders if s.caught_up}

    def cut(self, *names: str) -> None:
        """At the moment of the last look."""
        for name in names:
            self.sql.silent_since[name] = self.sql.now


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    return Ground(tmp_path, monkeypatch)


def test_standbys_that_reply_are_not_missed(ground: Ground) -> None:
    assert ground.look(CALM) == 0 and ground.caught_up() == {"a-1", "a-2"}


def test_those_that_are_cut_off_are_missed_before_postgresql_gives_them_up(
    ground: Ground,
) -> None:
    ground.cut("a-1", "a-2")
    assert ground.look(CALM) == pytest.approx(CALM)
    assert ground.look(EAGER) == pytest.approx(CALM + EAGER)
    assert all(s.streaming for s in ground.pulse.replication.senders), "as PostgreSQL sees it"
    assert ground.caught_up() == set(), "or a degraded cluster would come back at once"


def test_one_that_is_left_is_enough_for_a_quorum_of_one(ground: Ground) -> None:
    ground.cut("a-1")
    assert ground.look(CALM) == 0 and ground.caught_up() == {"a-2"}


def test_a_reply_ends_it(ground: Ground) -> None:
    ground.cut("a-1", "a-2")
    assert ground.look(CALM) > 0
    ground.sql.silent_since["a-2"] = None
    assert ground.look(EAGER) == 0


def test_what_was_not_watched_does_not_count(ground: Ground) -> None:
    """A primary that was frozen knows only old replies when it wakes."""
    ground.cut("a-1", "a-2")
    assert ground.look(UNWATCHED_AFTER + 1) == 0
    assert ground.look(EAGER) == pytest.approx(EAGER), "and from then on it does"


def test_a_standby_that_never_replied_is_heard_for_a_moment(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """reply_time is empty until the first reply."""
    real = ground.sql.look

    def look(timeout: float) -> Look:
        shown = real(timeout)
        mute = tuple(replace(s, pid=s.pid + 10, reply_age=None) for s in shown.senders)
        return replace(shown, senders=mute)

    monkeypatch.setattr(ground.sql, "look", look)
    assert ground.look(CALM) == 0
    assert ground.look(CALM) > 0


PATIENCE = 10.0  # seconds of silence; a renewDeadline
REFUSED = Look(Alive.BUSY_OR_REFUSING, connected=False)
FULL_DISK = Look(Alive.BUSY_OR_REFUSING, connected=True)


def shows(ground: Ground, monkeypatch: pytest.MonkeyPatch, look: Look, seconds: float) -> None:
    monkeypatch.setattr(ground.sql, "look", lambda timeout: look)
    for _ in range(int(seconds / CALM)):
        ground.look(CALM)


def test_too_many_clients_are_life_without_a_silence_before(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(ground, monkeypatch, REFUSED, 300.0)
    assert ground.pulse.ill(PATIENCE) is None


def test_too_many_clients_after_a_silence_are_the_backends_that_hang(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that hangs every commit leaves a backend that nothing ends."""
    shows(ground, monkeypatch, Look(Alive.SILENT, connected=True), 2 * CALM)
    assert ground.pulse.ill(PATIENCE) is None
    shows(ground, monkeypatch, REFUSED, PATIENCE)
    assert "has not answered" in (ground.pulse.ill(PATIENCE) or "")


@pytest.mark.parametrize("look", [FULL_DISK, Look(Alive.ALIVE)])
def test_a_probe_that_was_carried_out_ends_a_silence(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, look: Look
) -> None:
    shows(ground, monkeypatch, Look(Alive.SILENT, connected=True), 2 * CALM)
    shows(ground, monkeypatch, look, CALM)
    shows(ground, monkeypatch, REFUSED, 300.0)
    assert ground.pulse.ill(PATIENCE) is None


def test_a_server_that_does_not_end_is_ill(ground: Ground) -> None:
    """Not even SIGKILL ends what hangs in its disk, and no lease is renewed for it."""
    ground.pulse.is_primary = lambda: False
    ground.pulse.stopping_for = lambda: PATIENCE - 1
    assert ground.pulse.ill(PATIENCE) is None
    ground.pulse.stopping_for = lambda: PATIENCE + 1
    assert "does not end" in (ground.pulse.ill(PATIENCE) or "")
