"""The copy of the operator's folder into a pod, on folders made up here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pgha.install import InstallError, install, marks_of

pytestmark = pytest.mark.unit


def bundle(folder: Path, text: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "deep").mkdir(parents=True)
    (folder / "bin" / "pgha").write_text(f"#!/bin/sh\necho {text}\n")
    (folder / "bin" / "pgha").chmod(0o755)
    (folder / "lib" / "deep" / "module.pyc").write_text(text)
    (folder / "lib" / "deep" / "module.pyc").chmod(0o644)
    (folder / "lib" / "link").symlink_to("deep")
    (folder / "BASE").write_text("base\n")
    (folder / "SOURCES").write_text(f"{text}\n")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir()
    return folder


def test_the_folder_is_copied_with_modes_and_links(tmp_path: Path, target: Path) -> None:
    source = bundle(tmp_path / "pgha", "one")
    install(target, source)
    assert sorted(entry.name for entry in target.iterdir()) == ["BASE", "SOURCES", "bin", "lib"]
    assert (target / "bin" / "pgha").stat().st_mode & 0o777 == 0o755
    assert (target / "lib" / "deep" / "module.pyc").stat().st_mode & 0o777 == 0o644
    assert os.readlink(target / "lib" / "link") == "deep"
    assert marks_of(target) == marks_of(source) == ("base\n", "one\n")


def test_a_second_run_changes_nothing(tmp_path: Path, target: Path) -> None:
    source = bundle(tmp_path / "pgha", "one")
    install(target, source)
    before = (target / "lib" / "deep" / "module.pyc").stat().st_ino
    install(target, source)
    assert (target / "lib" / "deep" / "module.pyc").stat().st_ino == before


def test_another_version_takes_the_old_ones_place_whole(tmp_path: Path, target: Path) -> None:
    old = bundle(tmp_path / "old", "one")
    (old / "lib" / "gone.pyc").touch()
    install(target, old)
    install(target, bundle(tmp_path / "new", "two"))
    assert (target / "lib" / "deep" / "module.pyc").read_text() == "two"
    assert not (target / "lib" / "gone.pyc").exists()


@pytest.mark.parametrize("stage", ["incoming", "one part", "no marks", "one mark"])
def test_a_copy_that_was_cut_short_is_made_anew(tmp_path: Path, target: Path, stage: str) -> None:
    source = bundle(tmp_path / "pgha", "one")
    if stage == "incoming":
        (target / ".incoming" / "bin").mkdir(parents=True)
    else:
        install(target, source)
        (target / "SOURCES").unlink()
        (target / "lib" / "deep" / "module.pyc").write_text("half")
    if stage == "one part":
        (target / "lib").rename(target / ".incoming")
    if stage == "no marks":
        (target / "BASE").unlink()
    install(target, source)
    assert (target / "lib" / "deep" / "module.pyc").read_text() == "one"
    assert marks_of(target) == marks_of(source)
    assert not (target / ".incoming").exists()


def test_a_copy_that_fails_halfway_does_not_pass_for_the_old_version(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(target, bundle(tmp_path / "old", "one"))
    new = bundle(tmp_path / "new", "two")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", fail)
        with pytest.raises(OSError, match="disk full"):
            install(target, new)
    assert marks_of(target) is None
    install(target, new)
    assert (target / "lib" / "deep" / "module.pyc").read_text() == "two"


def test_an_incomplete_folder_is_not_copied(tmp_path: Path, target: Path) -> None:
    source = bundle(tmp_path / "pgha", "one")
    (source / "SOURCES").unlink()
    with pytest.raises(InstallError, match="lacks BASE or SOURCES"):
        install(target, source)
    assert list(target.iterdir()) == []


def test_a_missing_target_is_told_with_the_remedy(tmp_path: Path) -> None:
    source = bundle(tmp_path / "pgha", "one")
    with pytest.raises(InstallError, match="mount an emptyDir"):
        install(tmp_path / "nowhere", source)


def test_a_checkout_is_not_a_folder_to_copy(target: Path) -> None:
    with pytest.raises(InstallError, match="run it from the operator image"):
        install(target)
