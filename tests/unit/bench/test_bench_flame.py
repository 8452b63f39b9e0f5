"""Flame graphs: recordings become seconds by stack, and those become boxes."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import flame, profiling

pytestmark = pytest.mark.unit

KEEPER = "/pgha/lib/python/pgha/keeper.py"


def event(ph: str, at: float, name: str, file: str = "", tid: int = 1) -> dict[str, Any]:
    return {"ph": ph, "ts": at * 1e6, "name": name, "tid": tid, "args": {"filename": file}}


EVENTS = [
    event("B", 0.0, "thread (7): MainThread"),
    event("B", 0.0, "Agent.serve", "/pgha/lib/python/pgha/agent.py"),
    event("B", 1.0, "Keeper.write", KEEPER),
    event("B", 1.0, "thread (8): pulse", tid=2),
    event("B", 1.0, "Pulse.run", "/x/pgha/pulse.py", tid=2),
    event("E", 3.0, "Keeper.write", KEEPER),
    event("E", 5.0, "Agent.serve", "/pgha/lib/python/pgha/agent.py"),
]
LOOP = ("MainThread", "Agent.serve (pgha/agent.py)")


def test_time_is_counted_by_stack() -> None:
    found = flame.of_events(EVENTS, 0.0, 10.0)
    assert found == {
        LOOP: 3.0,
        (*LOOP, "Keeper.write (pgha/keeper.py)"): 2.0,
        ("pulse", "Pulse.run (pgha/pulse.py)"): 4.0,
    }, "a thread that says nothing more is where it was"


def test_only_the_window_counts() -> None:
    found = flame.of_events(EVENTS, 2.5, 4.0)
    assert found[LOOP] == pytest.approx(1.0)
    assert found[(*LOOP, "Keeper.write (pgha/keeper.py)")] == pytest.approx(0.5)


def test_samples_become_seconds() -> None:
    text = (
        "thread (4589): pulse;Pulse.run (pgha/pulse.py);recv (socket.py) 4\n"
        "thread (0x7F): MainThread;<module> (pgha/__main__.py) 1\n"
    )
    assert flame.of_samples(text, 100) == {
        ("pulse", "Pulse.run (pgha/pulse.py)", "recv (socket.py)"): 0.04,
        ("MainThread", "<module> (pgha/__main__.py)"): 0.01,
    }


def test_a_function_that_calls_itself_counts_once() -> None:
    stacks = {("MainThread", "f (a.py)", "f (a.py)", "g (a.py)"): 2.0,
              ("MainThread", "f (a.py)"): 1.0, ("pulse", "f (a.py)"): 8.0}  # fmt: skip
    assert flame.by_function(stacks, "MainThread") == [
        ("f (a.py)", 3.0, 1.0), ("g (a.py)", 2.0, 2.0)
    ]  # fmt: skip


def test_boxes_are_as_wide_as_their_time() -> None:
    drawn = flame.svg(flame.of_events(EVENTS, 0.0, 10.0), "a <title>", ("MainThread",))
    ElementTree.fromstring(drawn)
    widths = dict(re.findall(r"<title>(\S+).*?</title><rect .*? width=\"([\d.]+)\"", drawn))
    assert float(widths["Agent.serve"]) == pytest.approx(1200)
    assert float(widths["Keeper.write"]) == pytest.approx(480, abs=0.1)
    assert "Pulse.run" not in widths, "another thread"
    assert drawn == flame.svg(flame.of_events(EVENTS, 0.0, 10.0), "a <title>", ("MainThread",))


def test_the_interpreter_is_what_memory_begins_with() -> None:
    maps = (
        "00400000-0041f000 r--p 00000000 fe:00 10880040        /pgha/lib/python3.11/python3.11\n"
        "7f0000000000-7f0000001000 r-xp 00000000 fe:00 1088    /pgha/lib/ld-linux-x86-64.so.2\n"
    )
    assert profiling.interpreter(maps) == "/pgha/lib/python3.11/python3.11"


def test_the_table_names_the_products_functions() -> None:
    functions = flame.by_function(flame.of_events(EVENTS, 0.0, 10.0), "MainThread")
    profile = {"what": "switchover", "role": "successor", "functions": functions}
    assert profiling.lines([profile])[0] == [
        "switchover", "successor", "Agent.serve (pgha/agent.py)", "5.000", "3.000"
    ]  # fmt: skip
    other = {**profile, "functions": [("recv (socket.py)", 1.0, 1.0)]}
    assert profiling.lines([other]) == []
