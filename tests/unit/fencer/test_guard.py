"""The guard against fencers that are not there, do not start or say strange things."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from pgha.fencer.fencer import process_table
from pgha.fencer.guard import Guard, default_command

pytestmark = pytest.mark.unit

HEAD = "import os, sys; fd = int(sys.argv[sys.argv.index('--fd') + 1])\n"
DEAF = HEAD + "import time\nwhile os.read(fd, 4096): pass\n"
ECHO = HEAD + (
    "import json\nrest = b''\n"
    "while part := os.read(fd, 4096):\n"
    "    *lines, rest = (rest + part).split(b'\\n')\n"
    "    for line in lines:\n"
    "        os.write(fd, json.dumps({'beat': json.loads(line)['beat']}).encode() + b'\\n')\n"
)


def guard(script: str, **arguments: float) -> Guard:
    return Guard([sys.executable, "-I", "-S", "-c", script], namespace=False, **arguments)  # type: ignore[arg-type]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_an_answer_confirms_the_deadline() -> None:
    made = guard(ECHO).start()
    try:
        assert made.ping(20) and made.confirmed is None and made.alive(20)
        made.allow_until(12345.0)
        assert made.ping(20) and made.confirmed == 12345.0
        made.allow_until(None)
        assert made.ping(20) and made.confirmed is None
    finally:
        made.stop()


def test_heartbeats_go_on_while_armed() -> None:
    made = guard(ECHO, beat_every=0.05).start()
    try:
        assert made.ping(20)
        made.allow_until(time.clock_gettime(time.CLOCK_BOOTTIME) + 100)
        first = made.answered_at
        until(lambda: made.answered_at > first + 0.2, "answers keep coming by themselves")
        assert made.alive(20)
    finally:
        made.stop()


def test_a_deaf_fencer_is_not_alive_and_is_replaced() -> None:
    made = guard(DEAF, beat_every=0.05, hung_after=0.2).start()
    try:
        made.allow_until(time.clock_gettime(time.CLOCK_BOOTTIME) + 100)
        assert not made.ping(0.05)
        assert not made.alive(100) and made.confirmed is None
        until(lambda: made.starts >= 3, "one after the other is replaced")
        assert not made.alive(100)
    finally:
        made.stop()


def test_a_fencer_that_ends_at_once_is_tried_again() -> None:
    made = guard("").start()
    try:
        until(lambda: made.starts >= 2, "another start")
        assert not made.ping(0.2) and not made.alive(100)
    finally:
        made.stop()


def test_a_fencer_that_cannot_start_is_an_error() -> None:
    with pytest.raises(OSError):
        Guard(["/nonexistent/fencer"], namespace=False).start()


def test_the_answer_dates_from_the_question() -> None:
    """A heartbeat that waited in the pipe proves life at its sending or later, not only now."""
    now = 100.0
    late = ECHO.replace("        os.write", "        os.read(0, 1); os.write")
    made = Guard(
        [sys.executable, "-I", "-S", "-c", late], namespace=False, clock=lambda: now,
        hung_after=1000,
    ).start()  # fmt: skip
    try:
        now = 103.0  # the heartbeat of the start is under way
        until(lambda: made.answered_at == 100.0, "it is answered")
        assert not made.alive(2.0) and made.alive(3.0)
    finally:
        made.stop()


def test_stop_leaves_no_process() -> None:
    made = guard(ECHO).start()
    pid = made.pid
    assert pid is not None and pid in process_table()
    made.stop()
    assert made.pid is None and pid not in process_table()


def test_the_command_is_isolated_and_is_no_module_of_ours() -> None:
    command = default_command()
    assert command[-4:-1] == ["-I", "-S", "-E"] and command[-1].endswith("fencer.py")
