"""A machine that lacks something is refused with one sentence that names the remedy."""

from __future__ import annotations

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from lab import requirements
from lab.requirements import LabError, check_machine

pytestmark = pytest.mark.unit

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def good_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 100e9))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def test_accepts_a_good_machine(tmp_path: Path) -> None:
    assert check_machine(tmp_path, tools_built=False) is None  # type: ignore[func-returns-value]


def test_needs_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(LabError, match="needs Linux .* this is darwin: use a Linux machine"):
        check_machine(tmp_path, tools_built=True)


def test_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match="needs root .* this is user 1000: run it with sudo"):
        check_machine(tmp_path, tools_built=True)


def test_says_how_much_disk_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 6e9))
    with pytest.raises(LabError, match="has 6.0 GB free and the lab needs 15 GB"):
        check_machine(tmp_path, tools_built=False)
    check_machine(tmp_path, tools_built=True)


def test_needs_go_only_to_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LabError, match="Go is missing: .* install Go"):
        check_machine(tmp_path, tools_built=False)
    check_machine(tmp_path, tools_built=True)


def test_needs_debian_for_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LabError, match="found no dpkg here"):
        requirements.install_packages(["containerd"])


def test_disk_is_judged_where_the_cache_will_be(tmp_path: Path) -> None:
    assert requirements.free_gigabytes(tmp_path / "not" / "yet") == pytest.approx(100)
