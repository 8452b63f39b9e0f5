"""A disk that hangs: every call ends in time, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pgha.postgres.server import ServerState
from pgha.postgres.sql import Alive, SqlError
from tests.integration.postgres.freezing import DISK, disk, frozen
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import Node, eventually

pytestmark = pytest.mark.integration

SLACK = 3.0  # seconds by which a busy machine may be late


@pytest.fixture
def image(place_of: Callable[[str], Place], tmp_path: Path) -> Iterator[Place]:
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    place = place_of("15")
    with disk(tmp_path) as shown:
        yield replace(place, shown={**place.shown, **shown})


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + SLACK


def test_nothing_waits_for_a_disk_that_hangs(image: Place) -> None:
    node = Node("ha-0", base=DISK / "ha-0").leading()
    node.ask("CREATE TABLE t (n int)")
    with frozen():
        with within(0.5):
            assert node.sql.alive(0.5) is Alive.SILENT
        with within(0.5):
            assert node.sql.look(0.5).alive is Alive.SILENT
        with within(0.5), pytest.raises(SqlError):
            node.sql.checkpoint(0.5)
        with within(3.0), pytest.raises(SqlError):
            node.sql.create_slot("pgha_ha_1")
        with within(1.0):
            assert node.directory.control().timeline >= 1
            node.directory.end_of_wal(5.0)
        with within(0.5):
            assert node.server.poll() is ServerState.PRIMARY
            assert not node.server.stop("fast", 0.5)
        with within(0.5):
            assert not node.server.stop("immediate", 0.5)
        with within(1.0):
            node.server.kill(1.0)
    eventually("all are gone after the thaw", lambda: node.server.kill(10.0))
    assert node.server.poll() is ServerState.STOPPED
    node.started().promoted()
    assert node.sql.alive(5.0) is Alive.ALIVE
