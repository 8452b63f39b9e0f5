"""Law, point 1: what decides counts on CLOCK_BOOTTIME alone; a wall clock that jumps is harmless.

Read from the code, since the lab cannot make the wall clock jump for one container only. Times that
another member or the API server wrote are never parsed either.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgha

pytestmark = pytest.mark.unit

PACKAGE = Path(pgha.__file__).parent
WALL = {
    "time.time", "time.time_ns", "time.localtime", "datetime.now", "datetime.utcnow",
    "datetime.today", "date.today", "time.CLOCK_REALTIME", "datetime.fromisoformat",
    "datetime.strptime", "time.strptime", "time.mktime", "datetime.timestamp",
}  # fmt: skip
#: Where people read it: log lines, the Lease's renewTime, Events.
SHOWN = {"report.py", "kube/leases.py", "kube/events.py"}


def wall_clocks(source: str) -> Iterator[str]:
    """The uses of the wall clock, as `module.name`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if f"{node.value.id}.{node.attr}" in WALL:
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from ({f"{node.module}.{alias.name}" for alias in node.names} & WALL)


def test_the_wall_clock_decides_nothing() -> None:
    used = {
        str(path.relative_to(PACKAGE)): list(wall_clocks(path.read_text()))
        for path in PACKAGE.rglob("*.py")
    }
    assert len(used) > 50, "the package was read"
    assert {file for file, uses in used.items() if uses} == SHOWN


def test_a_use_of_it_would_be_seen() -> None:
    assert list(wall_clocks("import time\nnow = time.time()")) == ["time.time"]
    assert list(wall_clocks("from time import time\nnow = time()")) == ["time.time"]
    assert not list(wall_clocks("import time\nnow = time.clock_gettime(time.CLOCK_BOOTTIME)"))
