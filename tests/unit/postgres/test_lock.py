"""The lock on the volume: whom it tells of, and where it says nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgha.postgres import copying
from pgha.postgres.directory import Directory, DirectoryError
from pgha.postgres.lock import DirectoryLock, Lock, file_system

pytestmark = pytest.mark.unit

LINE = "36 35 {device} /a /b rw,noatime master:1 - {kind} /dev/x rw,errors=continue\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a volume which, as far as the mounts say, is a disk of this machine."""
    mounts(tmp_path, "ext4")
    return tmp_path


def mounts(folder: Path, kind: str) -> Path:
    device = folder.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    (folder / "mounts").write_text(LINE.format(device=name, kind=kind))
    return folder / "mounts"


def lock(folder: Path) -> DirectoryLock:
    return DirectoryLock(folder / "pgha", folder / "mounts")


def ended(made: DirectoryLock) -> None:
    assert made.fd is not None
    os.close(made.fd)


def test_one_of_two_has_it_and_the_other_gets_it_when_that_one_ends(folder: Path) -> None:
    former, later = lock(folder), lock(folder)
    assert former.take() is Lock.OURS
    assert former.take() is Lock.OURS
    assert later.take() is Lock.TAKEN
    ended(former)
    assert later.take() is Lock.OURS
    assert former.place == later.place


def test_a_program_that_inherited_it_has_it_still(folder: Path) -> None:
    former, later = lock(folder), lock(folder)
    assert former.take() is Lock.OURS
    assert former.fd is not None
    with subprocess.Popen(["sleep", "60"], pass_fds=[former.fd]) as program:
        ended(former)
        assert later.take() is Lock.TAKEN
        program.kill()
    assert later.take() is Lock.OURS


def test_another_file_is_another_place(folder: Path) -> None:
    former = lock(folder)
    (folder / "pgha" / ".lock").unlink()
    assert lock(folder).place != former.place


@pytest.mark.parametrize("kind", ["nfs4", "fuse.glusterfs", "overlay", "virtiofs", "9p", "tmpfs"])
def test_a_file_system_that_two_kernels_may_share_has_none(tmp_path: Path, kind: str) -> None:
    mounts(tmp_path, kind)
    made = lock(tmp_path)
    assert (made.take(), made.place, made.fd) == (Lock.NONE, None, None)


def test_a_folder_that_cannot_be_made_has_none(folder: Path) -> None:
    (folder / "pgha").write_text("a file")
    assert lock(folder).take() is Lock.NONE


def test_the_type_of_the_file_system_is_that_of_the_device() -> None:
    text = LINE.format(device="8:1", kind="xfs") + LINE.format(device="8:17", kind="ext4")
    assert file_system(text, os.makedev(8, 17)) == "ext4"
    assert file_system(text, os.makedev(8, 1)) == "xfs"
    assert file_system(text, os.makedev(0, 44)) is None
    assert file_system("36 35 8:1 / /b rw - \nrubbish\n\n", os.makedev(8, 1)) is None


def test_every_program_that_writes_in_the_directory_inherits_what_it_keeps(tmp_path: Path) -> None:
    """initdb, pg_basebackup and pg_rewind; PostgreSQL itself is in tests/integration."""
    programs = tmp_path / "bin"
    programs.mkdir()
    kept = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for name in ("initdb", "pg_basebackup", "pg_rewind"):
        says = f'test -e /proc/self/fd/{kept} && echo "$0: error: it is there" >&2\nexit 1\n'
        (programs / name).write_text(f"#!/bin/sh\n{says}")
        (programs / name).chmod(0o755)
    directory = Directory(tmp_path / "pgdata", programs, (kept,))
    server: Any = SimpleNamespace()
    for copy in (
        lambda: directory.initdb("owner", 10.0),
        lambda: copying.clone(
            "ha-0", "secret", directory, tmp_path, lambda: False, 10.0, max_rate=None
        ),
        lambda: copying.rewind(
            "ha-0", "secret", Stopped(tmp_path / "pgdata", programs, (kept,)), server, server,
            tmp_path, lambda: False, 10.0,
        ),
    ):
        with pytest.raises((DirectoryError, copying.CopyFailed), match="error: it is there"):
            copy()


class Stopped(Directory):
    """Stopped cleanly, as far as anybody asks."""

    def control(self) -> Any:
        return SimpleNamespace(cleanly_stopped=True)
