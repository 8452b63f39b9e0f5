"""What a vote rests on: after `detach` nothing more is received, however slow PostgreSQL is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pgha.postgres import conf, processes
from tests.integration.postgres.inside import LOG, Place
from tests.integration.postgres.nodes import Node, eventually, one_version

pytestmark = pytest.mark.integration

WITHIN = 20.0  # seconds


@one_version
def test_a_receiver_asked_for_before_the_detaching_receives_nothing(
    image: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The postmaster has taken the signal to reload, and reads its files slowly; the startup
    process knows of nothing yet and asks for a receiver, which comes after `detach` has ended."""
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).following(primary)
    postmaster = int((standby.pgdata / "postmaster.pid").read_text().split()[0])
    ((startup, _),) = standby.server._titles("startup")
    slow = standby.run / "slow.conf"
    os.mkfifo(slow)
    write = conf.write_dynamic

    def write_slowly(run_dir: Path, *values: str) -> None:
        write(run_dir, *values)
        with open(run_dir / "dynamic.conf", "a") as file:
            file.write(f"include = '{slow}'\n")

    monkeypatch.setattr(conf, "write_dynamic", write_slowly)
    assert standby.server.detach(3.0)
    end = standby.directory.end_of_wal(WITHIN)
    eventually("one is asked for", lambda: processes.awaits(postmaster, signal.SIGUSR1))
    os.kill(startup, signal.SIGSTOP)  # it is slow as well
    said = LOG.read_text()
    with open(slow, "w"):
        slow.unlink()  # the others need not be slow, once it tells them
        slow.touch()
    eventually("one came and went", lambda: "could not connect" in LOG.read_text()[len(said):])
    primary.ask("SELECT pg_logical_emit_message(true, 'x', 'y')")
    assert primary.heard() == set()
    assert standby.directory.end_of_wal(WITHIN) == end
    monkeypatch.undo()
    os.kill(startup, signal.SIGCONT)
    standby.attached(primary)
