"""A container's processes, read from its cgroup, also where that has just gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import cgroups
from lab.faults import Container

pytestmark = pytest.mark.unit


def test_the_processes_of_a_container_are_those_in_its_cgroup(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert [process.pid for process in cgroups.members(tmp_path)] == [os.getpid()]


def test_a_container_that_has_ended_has_none(tmp_path: Path) -> None:
    assert cgroups.members(tmp_path / "gone") == []
    gone = Container("n/p", "0" * 64, tmp_path / "gone")
    assert gone.signal(9) == []


def test_another_fault_is_none_of_its_end(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").mkdir()
    with pytest.raises(IsADirectoryError):
        cgroups.members(tmp_path)
