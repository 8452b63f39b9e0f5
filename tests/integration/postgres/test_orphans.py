"""PID 1 of a namespace and the dead that come to it: whose exit status it takes, and whose not.

Each script runs as PID 1 of a PID namespace of its own, as the agent does in its container; the
time that passes there is the script's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
BEGIN = """
import os, subprocess, sys, threading, time
from pathlib import Path
from pgha.postgres import orphans, processes
from pgha.postgres.server import Server

assert os.getpid() == 1
now = 0.0
orphans.boottime = lambda: now
server = Server(None, Path("/x"), Path("/x"))

def dead():
    return [p for p in processes.all_children(1) if processes.gone(p)]

def until_dead(count):
    deadline = time.monotonic() + 20
    while len(dead()) != count:
        assert time.monotonic() < deadline, dead()
        time.sleep(0.005)

def after(seconds):
    global now
    now += seconds
    server.reap()
    return len(dead())

"""


def as_pid_1(script: str, *arguments: str) -> None:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--pid", "--fork", "--mount-proc", "--kill-child",
         sys.executable, "-c", BEGIN + textwrap.dedent(script), *arguments],
        env={**os.environ, "PYTHONPATH": f"{ROOT}/operator", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_orphans_of_any_name_are_taken() -> None:
    as_pid_1("""
        subprocess.run(["sh", "-c", "for i in 1 2 3; do sleep 0 & done"])
        until_dead(3)
        assert after(0.0) == 3
        assert after(59.0) == 3, "somebody may be about to take them"
        subprocess.run(["sh", "-c", "sleep 0 &"])
        until_dead(4)
        assert after(1.0) == 1, "one of them is new"
        assert after(59.0) == 1
        assert after(1.0) == 0
    """)


def test_what_the_agent_waits_for_is_left() -> None:
    as_pid_1("""
        made = [subprocess.Popen(["sh", "-c", "exit 3"])]
        class Kind(subprocess.Popen): pass
        made.append(Kind(["sh", "-c", "exit 3"]))
        thread = threading.Thread(
            target=lambda: made.append(subprocess.Popen(["sh", "-c", "exit 3"]))
        )
        thread.start()
        thread.join()
        subprocess.run(["sh", "-c", "sleep 0 &"])
        until_dead(4)
        assert after(0.0) == 4
        assert [after(100.0) for _ in range(3)] == [3, 3, 3], "one of them was an orphan"
        assert [each.wait() for each in made] == [3, 3, 3]
        assert after(100.0) == 0
    """)


def test_nobody_is_taken_while_a_program_is_being_started() -> None:
    """It is dead at once, and its number not yet where it can be seen."""
    as_pid_1("""
        forked = subprocess._fork_exec
        def slowly(*arguments):
            pid = forked(*arguments)
            until_dead(1)
            counts.extend(after(s) for s in (0.0, 100.0, 100.0))
            return pid
        counts = []
        subprocess._fork_exec = slowly
        assert subprocess.Popen(["sh", "-c", "exit 3"]).wait() == 3
        assert counts == [1, 1, 1]
    """)


def test_those_of_postgresql_are_taken_at_once(tmp_path: Path) -> None:
    """Its end is proved by them. Not the postmaster: it is waited for."""
    program = tmp_path / "postgres"
    program.symlink_to("/bin/sh")
    as_pid_1(
        """
        subprocess.run(["sh", "-c", f"{sys.argv[1]} -c : & {sys.argv[1]} -c : &"])
        server._process = subprocess.Popen([sys.argv[1], "-c", "exit 3"])
        until_dead(3)
        assert processes.name(server._process.pid) == "postgres"
        assert after(0.0) == 1
        assert after(100.0) == 1
        assert server.exit() == 3
        """,
        str(program),
    )
