"""Runs a function as user 999 inside an unpacked image, with a container's isolation.

Owns the namespaces: mounts, processes, network, IPC. The function's process is PID 1 there, as the
agent is in its pod, so that nothing it starts outlives it; the image's root is a lower layer, so
that nothing it writes stays. This machine's Python, with what it has imported, goes on inside.
"""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401  (imported late by socket, when its folder is out of sight)
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest import skip

USER = 999
LOG = Path("/tmp/postgres.log")
ROOM = "4g"  # bytes of memory that the files of one function may take
SMALL = Path("/small")  # a disk that is soon full
SMALL_ROOM = 128 * 1024 * 1024  # its bytes
_NEW = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "pid": 0x20000000,
        "net": 0x40000000}  # fmt: skip
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_SET_DEATH_SIGNAL, _SET_DUMPABLE = 1, 4
_libc = ctypes.CDLL(None, use_errno=True)


class FailedInside(AssertionError):
    """What was raised inside, as text."""


@dataclass(frozen=True)
class Place:
    """An image's folder, its environment, and folders of this machine to be seen inside."""

    root: Path
    environment: Mapping[str, str]
    shown: Mapping[str, Path] = field(default_factory=dict)


def run_inside(place: Place, function: Callable[[], None], timeout: float) -> None:
    """Raises FailedInside with the traceback and the end of PostgreSQL's log."""
    reading, writing = os.pipe()
    outer = os.fork()
    if outer == 0:
        try:
            os.close(reading)
            _outer(place, function, writing)
        finally:
            os._exit(70)
    os.close(writing)
    try:
        said = _read_all(reading, time.monotonic() + timeout)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(outer, signal.SIGKILL)
        os.waitpid(outer, 0)
    if said is None:
        raise FailedInside(f"it did not end within {timeout:.0f} s")
    if not said:
        raise FailedInside("it died without a word")
    answer = json.loads(said)
    if "skipped" in answer:
        skip(answer["skipped"])
    if "failed" in answer:
        raise FailedInside(answer["failed"])


def _read_all(fd: int, deadline: float) -> bytes | None:
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            return None
        part = os.read(fd, 65536)
        if not part:
            return said
        said += part
    return None


def _outer(place: Place, function: Callable[[], None], writing: int) -> None:
    """Make the namespaces; PID 1 of them is a child, since unshare moves only children."""
    _die_with_parent()
    _call("unshare", sum(_NEW.values()))
    inner = os.fork()
    if inner == 0:
        answer: dict[str, str] = {}
        try:
            _enter(place)
            function()
            answer = {"passed": ""}
        except skip.Exception as e:
            answer = {"skipped": str(e)}
        except BaseException:  # noqa: BLE001 - all of it is for the other side to judge
            answer = {"failed": f"{traceback.format_exc()}{_end_of_log()}"}
        finally:
            sys.stdout.flush()
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(inner, 0)
    os._exit(0)


def _enter(place: Place) -> None:
    _mount("none", Path("/"), "", _RECURSIVE | _PRIVATE)
    top = Path("/mnt")
    _mount("tmpfs", top, "tmpfs", 0, f"size={ROOM},mode=755")
    root = top / "root"
    for name in ("root", "upper", "work"):
        (top / name).mkdir()
    layers = f"lowerdir={place.root},upperdir={top}/upper,workdir={top}/work"
    _mount("overlay", root, "overlay", 0, layers)
    for name in ("dev", "proc"):
        (root / name).mkdir(exist_ok=True)
    _mount("/dev", root / "dev", "", _BIND | _RECURSIVE)
    _mount("tmpfs", root / "dev/shm", "tmpfs", 0, "mode=1777")
    _mount("proc", root / "proc", "proc", 0)
    small = root / SMALL.name
    small.mkdir()
    _mount("tmpfs", small, "tmpfs", 0, f"size={SMALL_ROOM},mode=777")
    for inside, folder in place.shown.items():
        target = root / inside.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        _mount(str(folder), target, "", _BIND)
    _raise_loopback()
    os.chroot(root)
    os.chdir("/")
    os.environ.clear()
    os.environ.update(place.environment)
    for folder in ("/data", "/run/pgha", "/tmp"):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    _call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open("/dev/null", os.O_RDONLY)
    sys.stdout.flush()
    for target, fd in ((0, null), (1, log), (2, log)):
        os.dup2(fd, target)


def _end_of_log() -> str:
    try:
        return "--- the end of the log\n" + "\n".join(LOG.read_text().splitlines()[-40:])
    except OSError:
        return ""


def _raise_loopback() -> None:
    """As `ip link set lo up` (netdevice(7): SIOCSIFFLAGS with IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x1))


def _die_with_parent() -> None:
    _call("prctl", _SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)


def _mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    _call("mount", source.encode(), os.fsencode(target), kind.encode(), flags, data.encode())


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}{arguments}: {os.strerror(code)}")
