"""The end of a pod is heeded from the first moment on, whichever way it is learned of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pgha import agent, sigterm
from pgha.agent import Agent
from pgha.settings import Identity

pytestmark = pytest.mark.unit

# Stands for pgha.cli with its imports, and is told to end while it is loaded.
EARLY = """
import os, runpy, signal, sys, types
class Early(types.ModuleType):
    def __getattr__(self, name):
        os.kill(os.getpid(), signal.SIGTERM)
        from pgha import sigterm
        return lambda: 0 if sigterm.came else 7
sys.modules["pgha.cli"] = Early("pgha.cli")
runpy.run_module("pgha", run_name="__main__")
"""


def ended(*arguments: str) -> int:
    run = subprocess.run([sys.executable, "-c", EARLY, *arguments], timeout=60, env=os.environ)
    return run.returncode


def test_an_agent_has_a_handler_before_anything_else_is_imported() -> None:
    assert ended("agent") == 0


def test_a_command_of_a_person_ends_as_ever() -> None:
    assert ended("status", "c") == -signal.SIGTERM


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sigterm, "came", False)
    monkeypatch.setattr(agent, "say_who_dies", lambda incarnation: None)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def idle() -> Agent:
    made: Any = Agent.__new__(Agent)
    made._leaving, made._pods, made._bell = False, {}, SimpleNamespace(ring=lambda: None)
    made.identity, made.settings = Identity("c-0", "u0", "s0"), SimpleNamespace(version="15")
    made.log, made.serve = lambda *_, **__: None, lambda: None
    assert isinstance(made, Agent)
    return made


@pytest.mark.parametrize("early", [True, False])
def test_a_sigterm_of_the_first_moment_makes_the_agent_leave(handlers: None, early: bool) -> None:
    sigterm.heed()
    if early:
        os.kill(os.getpid(), signal.SIGTERM)
    made = idle()
    made.run()
    assert made._leaving is early
    os.kill(os.getpid(), signal.SIGTERM)
    assert made._leaving


def pod(name: str, uid: str, deleted: bool) -> dict[str, Any]:
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
    return {"metadata": {"name": name, "uid": uid, **gone}}


@pytest.mark.parametrize("name, uid, deleted, leaves", [
    ("c-0", "u0", True, True),
    ("c-0", "u0", False, False),
    ("c-0", "u9", True, False),  # another pod of this name: the one before, or the next
    ("c-1", "u1", True, False),
])
def test_the_deletion_of_the_own_pod_is_the_same(
    name: str, uid: str, deleted: bool, leaves: bool
) -> None:
    made = idle()
    made._pods_changed({name: pod(name, uid, deleted)})
    assert made._leaving is leaves
    made._pods_changed({})  # it was removed before its containers had ended
    assert made._leaving is leaves
