"""Runs PostgreSQL's programs, with deadlines that hold even where a disk does not answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class ProgramLate(Exception):
    """A program did not end in time; one sentence."""


@dataclass(frozen=True)
class Said:
    """How a program ended, and what it printed, in English."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        return complaint(self.err) or f"exit status {self.status}"


def complaint(words: str) -> str:
    """The line of a program's standard error that says what went wrong."""
    lines = words.strip().splitlines()
    loud = [x for x in lines if ": error: " in x or ": fatal: " in x]
    return (loud or lines or [""])[-1][-300:]


def run(command: Sequence[str | Path], timeout: float, kept: Sequence[int] = ()) -> Said:
    """Raises ProgramLate after `timeout` seconds, OSError if it cannot be started. `kept`: open
    files that it inherits.

    A process that waits for a disk cannot be killed: it is not waited for.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"}, text=True, errors="replace",
        pass_fds=kept,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=max(0.0, timeout))
    except subprocess.TimeoutExpired as e:
        raise ProgramLate(f"{Path(command[0]).name} did not end in {timeout:.1f} s") from e
    finally:
        if process.poll() is None:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
    return Said(process.returncode, out, err)
