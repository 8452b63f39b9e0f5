"""Daemons are remembered so that a stranger with the same process id is never touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import mounts, processes
from lab.processes import Daemons, Process
from lab.requirements import LabError

pytestmark = pytest.mark.unit


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "600"])
    yield child
    child.kill()
    child.wait()


def test_sees_itself() -> None:
    me = Process.of(os.getpid())
    assert me is not None and me.alive()


def test_a_dead_process_is_none(sleeper: subprocess.Popen[bytes]) -> None:
    process = Process.of(sleeper.pid)
    assert process is not None
    sleeper.kill()
    sleeper.wait()
    assert Process.of(sleeper.pid) is None
    assert not process.alive()
    assert process.send(signal.SIGTERM) is False


def test_a_zombie_is_none(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert Process.of(sleeper.pid) is None


def test_never_signals_a_stranger(sleeper: subprocess.Popen[bytes]) -> None:
    stranger = Process(sleeper.pid, start=1)
    assert not stranger.alive()
    assert stranger.send(signal.SIGKILL) is False
    stranger.end(seconds=1)
    assert sleeper.poll() is None


def test_ends_a_stopped_process(sleeper: subprocess.Popen[bytes]) -> None:
    process = Process.of(sleeper.pid)
    assert process is not None
    process.send(signal.SIGSTOP)
    process.end(seconds=10)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_record_of_a_stranger_is_not_the_daemon(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = tmp_path / "processes"
    folder.mkdir()
    (folder / "etcd.json").write_text(json.dumps({"pid": sleeper.pid, "start": 1}))
    daemons = Daemons(tmp_path)
    assert daemons.get("etcd") is None
    assert daemons.stop("etcd") is False
    assert daemons.names() == []
    assert sleeper.poll() is None


def test_a_torn_record_is_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "etcd.json").write_text('{"pid": ')
    assert Daemons(tmp_path).get("etcd") is None


def test_last_words(tmp_path: Path) -> None:
    daemons = Daemons(tmp_path)
    assert daemons.last_words("etcd") == "(no log)"
    daemons.log("etcd").parent.mkdir()
    daemons.log("etcd").write_text("one\ntwo\nthree\nfour\n")
    assert daemons.last_words("etcd") == "two | three | four"


def test_gives_up_with_the_complaint() -> None:
    with pytest.raises(LabError, match="Gave up after 0 s: the sky fell"):
        processes.wait_until(lambda: False, 0, lambda: "the sky fell")


def test_mounts_below_are_innermost_first(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        "1 0 8:0 / / rw - ext4 /dev/vda rw\n"
        "2 1 8:0 / /cache/lab rw - ext4 /dev/vda rw\n"
        "3 2 8:0 / /cache/lab/a\\040b rw - tmpfs tmpfs rw\n"
        "4 1 8:0 / /cache/laboratory rw - tmpfs tmpfs rw\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda self: table)
    assert mounts.below(Path("/cache/lab")) == [Path("/cache/lab/a b"), Path("/cache/lab")]
