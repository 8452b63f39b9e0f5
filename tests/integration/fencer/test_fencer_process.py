"""The real fencer in a real PID namespace: whatever the agent does, everybody ends in time.

The remote-controlled agent (agent.py) is never this process, so that no mistake of the fencer can
reach the machine: as PID 1 of its namespace it bounds kill(-1), and without one the fencer looks
at that agent's descendants only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pgha.fencer

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
FENCER = Path(pgha.fencer.__file__).with_name("fencer.py")


class Agent:
    """Drives one agent; `tag` marks its children's command lines."""

    def __init__(self, prefix: list[str], python: str, path: str) -> None:
        self.tag = str(10**9 + uuid.uuid4().int % 10**9)
        self._process = subprocess.Popen(
            [*prefix, python, str(Path(path) / "tests/integration/fencer/agent.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
            env={**os.environ, "PYTHONPATH": f"{path}/operator", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        self.do("ping", 5)

    def do(self, what: str, argument: object = None) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, argument]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the agent died at {what}"
        return json.loads(line)

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.do("state"))

    def outer_pid(self) -> int:
        """The agent's PID as this process sees it: the one whose command line names agent.py."""
        found = [p for p in _below(self._process.pid) if "agent.py" in _command(p)]
        return max(found, key=lambda p: _below(p) == [] or p)  # unshare's child, not unshare

    def fencer_pid(self) -> int:
        (found,) = [p for p in _below(self._process.pid) if "fencer.py" in _command(p)]
        return found

    def children(self) -> list[int]:
        """Living processes anywhere that bear the tag."""
        return [p for p in _pids() if f"sleep {self.tag}" in _command(p)]

    def end(self) -> None:
        for pid in [*self.children(), *_below(self._process.pid), self._process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # ended already
        self._process.communicate()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command(pid: int) -> str:
    """The command line; empty for zombies."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _below(root: int) -> list[int]:
    parents = {}
    for pid in _pids():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
    found, todo = [], [root]
    while todo:
        parent = todo.pop()
        new = [pid for pid, above in parents.items() if above == parent]
        found += new
        todo += new
    return found


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def pause(seconds: float) -> None:
    """For what must not happen within a time: there is no condition to wait for."""
    threading.Event().wait(seconds)


def _namespace() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--pid", "--fork", "--mount-proc"]


@pytest.fixture
def agent() -> Iterator[Agent]:
    """PID 1 of a namespace."""
    made = Agent(_namespace(), sys.executable, str(ROOT))
    yield made
    made.end()


@pytest.fixture
def plain() -> Iterator[Agent]:
    """An ordinary process."""
    made = Agent([], sys.executable, str(ROOT))
    yield made
    made.end()


def test_at_the_deadline_everybody_ends_and_the_agent_lives(agent: Agent) -> None:
    agent.do("child", agent.tag)
    agent.do("orphan", agent.tag)
    agent.do("chain")
    until(lambda: len(agent.children()) == 2, "the children run")
    assert len(agent.do("others")) >= 3
    agent.do("allow", 0.5)
    assert agent.do("ping", 5)
    until(lambda: agent.state["fenced_at"] is not None, "the fencer reports")
    state = agent.state
    assert state["confirmed_in"] <= 0  # not a moment too early
    assert agent.do("others") == []
    assert agent.children() == []
    assert state["starts"] == 1


def test_an_agent_that_is_stopped_is_fenced(agent: Agent) -> None:
    agent.do("child", agent.tag)
    agent.do("chain")
    agent.do("allow", 0.7)
    assert agent.do("ping", 5)
    pid = agent.outer_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: not agent.children(), "the child of the stopped agent is dead")
        until(lambda: _alive_below(pid) == [agent.fencer_pid()], "and so is everybody else")
        # Whatever enters now, by an exec from outside say, is ended too: nobody beats any more.
        rights = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", *rights, f"--target={pid}", "--pid", "sleep", agent.tag]
        with subprocess.Popen(enter) as entered:
            assert entered.wait(20) != 0
    finally:
        os.kill(pid, signal.SIGCONT)
    assert agent.do("others") == []
    until(lambda: agent.state["fenced_at"] is not None, "the report was kept for it")


def _alive_below(root: int) -> list[int]:
    return [p for p in _below(root) if _command(p)]


def test_an_agent_that_dies_takes_all_with_it(agent: Agent) -> None:
    agent.do("child", agent.tag)
    agent.do("chain")
    agent.do("allow", 60)
    assert agent.do("ping", 5)
    pid, fencer = agent.outer_pid(), agent.fencer_pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not agent.children(), "the child of the dead agent is dead")
    until(lambda: _command(fencer) == "", "the fencer too")


def test_a_closed_pipe_fences_while_armed(agent: Agent) -> None:
    agent.do("child", agent.tag)
    agent.do("allow", 60)
    assert agent.do("ping", 5)
    fencer = agent.fencer_pid()
    agent.do("close")
    until(lambda: not agent.children(), "the child is dead long before the deadline")
    until(lambda: _command(fencer) == "", "the fencer ended")


def test_a_closed_pipe_fences_nothing_while_disarmed(agent: Agent) -> None:
    agent.do("child", agent.tag)
    agent.do("allow", 60)
    assert agent.do("ping", 5)
    agent.do("allow", None)
    assert agent.do("ping", 5)
    fencer = agent.fencer_pid()
    agent.do("close")
    until(lambda: _command(fencer) == "", "the fencer ended")
    assert len(agent.children()) == 1


def test_renewals_postpone_and_disarming_ends_it(agent: Agent) -> None:
    agent.do("child", agent.tag)
    for _ in range(8):
        agent.do("allow", 1.0)
        assert agent.do("ping", 5)
        pause(0.2)
    assert len(agent.children()) == 1 and agent.state["fenced_at"] is None
    agent.do("allow", None)
    assert agent.do("ping", 5)
    pause(1.2)  # the last deadline passes
    assert len(agent.children()) == 1 and agent.state["fenced_at"] is None


def test_it_stays_shut_until_told_otherwise(agent: Agent) -> None:
    agent.do("allow", 0.1)
    until(lambda: agent.state["fenced_at"] is not None, "fenced with nobody there")
    first = agent.state["fenced_at"]
    agent.do("child", agent.tag)
    until(lambda: not agent.children(), "what starts afterwards is killed")
    # One that starts between a look and a blow dies unreported, hence again and again.
    until(
        lambda: agent.do("child", agent.tag) and agent.state["fenced_at"] != first,
        "and that is reported",
    )
    until(lambda: not agent.children(), "the last of them is dead")
    agent.do("allow", None)
    assert agent.do("ping", 5)
    agent.do("child", agent.tag)
    pause(0.8)  # some sweeps would have come
    assert len(agent.children()) == 1


def test_a_fencer_that_dies_is_replaced_and_the_deadline_stands(agent: Agent) -> None:
    agent.do("child", agent.tag)
    agent.do("allow", 3)
    assert agent.do("ping", 5)
    os.kill(agent.fencer_pid(), signal.SIGKILL)
    until(lambda: agent.state["starts"] == 2, "another one")
    until(lambda: agent.do("ping", 2), "it answers")
    assert agent.state["alive"] and len(agent.children()) == 1
    until(lambda: not agent.children(), "it fences at the same deadline")
    until(lambda: agent.state["fenced_at"] is not None, "and reports it")


def test_a_fencer_that_hangs_is_noticed_and_replaced(agent: Agent) -> None:
    agent.do("child", agent.tag)
    agent.do("allow", 60)
    assert agent.do("ping", 5)
    first = agent.fencer_pid()
    os.kill(first, signal.SIGSTOP)
    assert not agent.do("ping", 0.2)
    until(lambda: agent.state["starts"] == 2 and agent.do("ping", 2), "another one answers")
    assert _command(first) == ""
    assert len(agent.children()) == 1 and agent.state["confirmed_in"] > 0


def test_polite_signals_are_ignored(agent: Agent) -> None:
    pid = agent.fencer_pid()
    agent.do("allow", 60)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        os.kill(pid, number)
        assert agent.do("ping", 5)
    assert agent.fencer_pid() == pid and agent.state["starts"] == 1


def test_it_is_small_and_counts_time_that_was_slept(agent: Agent) -> None:
    pid = agent.fencer_pid()
    agent.do("allow", 60)
    assert agent.do("ping", 5)
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)
    assert found is not None and int(found[1]) < 10 * 1024
    timers = [
        text
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir()
        if "clockid" in (text := entry.read_text())
    ]
    assert len(timers) == 1 and f"clockid: {time.CLOCK_BOOTTIME}" in timers[0]


def test_as_the_user_of_the_container() -> None:
    """uid 999 without capabilities, as in the pod."""
    folder = Path("/tmp") / f"pgha-fencer-{uuid.uuid4().hex}"
    shutil.copytree(ROOT / "operator/pgha/fencer", folder / "operator/pgha/fencer")
    shutil.copytree(ROOT / "tests/integration/fencer", folder / "tests/integration/fencer")
    shutil.copy(ROOT / "operator/pgha/clock.py", folder / "operator/pgha")
    (folder / "operator/pgha/__init__.py").touch()
    drop = ["setpriv", "--reuid=999", "--regid=999", "--clear-groups", "--bounding-set=-all",
            "--no-new-privs"]  # fmt: skip
    try:
        agent = Agent([*_namespace(), *drop], _python_for_all(drop), str(folder))
        try:
            agent.do("child", agent.tag)
            agent.do("chain")
            agent.do("allow", 0.3)
            until(lambda: agent.state["fenced_at"] is not None, "the fencer reports")
            assert agent.do("others") == [] and agent.children() == []
        finally:
            agent.end()
    finally:
        shutil.rmtree(folder)


def _python_for_all(drop: list[str]) -> str:
    """An interpreter that another user may execute; one in root's home folder is not."""
    candidates = [str(Path(sys.executable).resolve()), "/usr/bin/python3.11", "/usr/bin/python3"]
    # setpriv itself still has root's rights when it executes, so it is the child that counts.
    again = "import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', ''], check=True)"
    for path in candidates:
        command = [*drop, path, "-I", "-c", again]
        if subprocess.run(command, capture_output=True, timeout=30).returncode == 0:
            return path
    raise AssertionError(f"no Python of {candidates} can be run as uid 999: install python3")


def test_without_a_namespace_only_descendants_end(plain: Agent) -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        plain.do("child", plain.tag)
        plain.do("allow", 0.3)
        until(lambda: plain.state["fenced_at"] is not None, "the fencer reports")
        assert plain.children() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_without_a_namespace_a_dead_agents_children_end(plain: Agent) -> None:
    plain.do("child", plain.tag)
    plain.do("allow", 60)
    assert plain.do("ping", 5)
    os.kill(plain._process.pid, signal.SIGKILL)
    until(lambda: not plain.children(), "its child is dead")


def test_kill_everybody_is_refused_outside_a_namespace() -> None:
    """The one mistake that would end the machine."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(FENCER), "--namespace", "--fd", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),), capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    assert done.returncode == 2
    assert "PID 1" in done.stderr and "Traceback" not in done.stderr


def test_without_a_pipe_it_says_what_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(FENCER)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2 and done.stderr.startswith("fencer: needs --fd")


def test_no_disk_is_touched_once_it_runs(agent: Agent) -> None:
    """All that it has open is its pipe, its timer and the null device."""
    agent.do("allow", 60)
    assert agent.do("ping", 5)
    folder = Path(f"/proc/{agent.fencer_pid()}/fd")
    targets = {
        os.readlink(entry).split(":")[0]
        for entry in folder.iterdir()
        if entry.name != "2"  # stderr is this test's own
    }
    assert targets == {"socket", "anon_inode", "/dev/null"}


def test_threads_of_the_guard_sleep_while_nothing_is_armed(agent: Agent) -> None:
    """Idle costs nothing: no voluntary context switch of the fencer while disarmed."""
    agent.do("allow", None)
    assert agent.do("ping", 5)
    status = Path(f"/proc/{agent.fencer_pid()}/status")

    def switches() -> int:
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M)
        assert found is not None
        return int(found[1])

    pause(0.3)  # it goes to sleep after its answer
    before = switches()
    pause(2.0)
    assert switches() == before
