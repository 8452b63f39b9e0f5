"""The process table, as /proc shows it (proc(5)). Reads only, but for one `send`.

A process that ends while it is looked at is a process that is not there: nothing here raises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def send(pid: int, number: int) -> None:
    """A signal; to nobody, if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def everybody() -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def children(pid: int) -> list[int]:
    """The kernel's list is quick, but may miss one while another ends: see `all_children`."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:  # the process ended, or the kernel has no such list
        return all_children(pid)
    except (OSError, ValueError):
        return []


def all_children(pid: int) -> list[int]:
    """By asking every process for its parent."""
    return [p for p in everybody() if parent(p) == pid]


def title(pid: int) -> str:
    """The command line: a PostgreSQL process writes there what it does."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").rstrip()


def folder(pid: int) -> str | None:
    """The working directory."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def name(pid: int) -> str:
    return _stat(pid)[0]


def parent(pid: int) -> int:
    return int(_stat(pid)[2])


def gone(pid: int) -> bool:
    """Ended, though perhaps nobody has taken note of it yet (a zombie)."""
    return _stat(pid)[1] in "ZX"


def catches(pid: int, number: int) -> bool:
    """Is there a handler for this signal? Without one it may kill."""
    return bool(_mask(pid, "SigCgt:") >> (number - 1) & 1)


def awaits(pid: int, number: int) -> bool:
    """Was this signal sent and not yet taken?"""
    return bool((_mask(pid, "ShdPnd:") | _mask(pid, "SigPnd:")) >> (number - 1) & 1)


def listens(pid: int, number: int) -> bool:
    """Does it sleep, ready for this signal? A PostgreSQL process that does has begun its loop."""
    blocked = _mask(pid, "SigBlk:") >> (number - 1) & 1
    return catches(pid, number) and not blocked and _stat(pid)[1] == "S"


def _mask(pid: int, key: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line[len(key) :], 16)
    except (OSError, ValueError):
        pass
    return 0


def _stat(pid: int) -> tuple[str, str, str]:
    """Short name, state letter, parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "", "X", "0"
    state, above = text[text.rindex(")") + 2 :].split(None, 2)[:2]
    return text[text.index("(") + 1 : text.rindex(")")], state, above
