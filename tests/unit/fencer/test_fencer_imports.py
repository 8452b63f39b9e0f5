"""The fencer must start alone: the standard library and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import pgha.fencer
from pgha.fencer.fencer import refusal

pytestmark = pytest.mark.unit

SOURCE = Path(pgha.fencer.__file__).with_name("fencer.py")


def test_it_imports_the_standard_library_only() -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names <= sys.stdlib_module_names | {"__future__"}


def test_it_refuses_kill_everybody_here() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        why = refusal(theirs.fileno())
    assert why is not None and "PID 1" in why
