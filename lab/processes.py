"""Owns the daemons of a lab: starts them detached, remembers them, ends them.

A daemon is remembered by process id and start time, so that a process id which the kernel has
given to a stranger since is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.layout import enter
from lab.requirements import LabError

PROC = Path("/proc")
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Process:
    """One process of the machine, as it was when it was seen."""

    pid: int
    start: int

    @staticmethod
    def of(pid: int) -> Process | None:
        """The process that has this id now; None if there is none or it is a zombie."""
        try:
            # The command's name in field 2 may hold blanks and parentheses.
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else Process(pid, int(fields[19]))

    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def send(self, number: int) -> bool:
        """Send a signal to this process and no other; False if it is gone."""
        with self._handle() as handle:
            if handle is None:
                return False
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
                return True
            return False

    def end(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, wait, and SIGKILL if it is still there after the deadline."""
        with self._handle() as handle:
            if handle is None:
                return
            for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, STOP_SECONDS)):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
                    # A stopped process takes no SIGTERM.
                    signal.pidfd_send_signal(handle, signal.SIGCONT)
                if select.select([handle], [], [], patience)[0]:
                    return
        raise LabError(
            f"Process {self.pid} does not die by SIGKILL: it waits in the kernel, probably for a "
            "frozen disk or cgroup; thaw that and try again."
        )

    @contextlib.contextmanager
    def _handle(self) -> Iterator[int | None]:
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            # Only after the handle is open is it sure whom a signal would meet.
            yield handle if self.alive() else None
        finally:
            os.close(handle)


def find(matches: Callable[[Path], bool]) -> list[Process]:
    """All processes whose folder in /proc satisfies the predicate."""
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if matches(folder) and (process := Process.of(int(folder.name))):
                found.append(process)
    return found


def in_network_namespaces(inodes: Iterable[int]) -> list[Process]:
    """The processes that live in one of the network namespaces."""
    wanted = set(inodes)
    return find(lambda folder: (folder / "ns" / "net").stat().st_ino in wanted)


def kill_all(processes: Iterable[Process], seconds: float = STOP_SECONDS) -> None:
    """SIGKILL all, then wait for all."""
    listed = list(processes)
    for process in listed:
        process.send(signal.SIGKILL)
    wait_until(
        lambda: not any(process.alive() for process in listed),
        seconds,
        lambda: (
            f"processes {[p.pid for p in listed if p.alive()]} do not die by SIGKILL: they wait in "
            "the kernel, probably for a frozen disk or cgroup"
        ),
    )


def wait_until(
    condition: Callable[[], bool],
    seconds: float,
    complaint: Callable[[], str],
    interval: float = 0.1,
) -> None:
    """Wait for a condition; after the deadline raise the complaint as a LabError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"Gave up after {seconds:g} s: {complaint()}.")
        time.sleep(interval)


class Daemons:
    """The daemons of one lab, remembered in its run folder."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "processes"
        self._logs = run / "logs"

    def names(self) -> list[str]:
        return sorted(file.stem for file in self._folder.glob("*.json"))

    def get(self, name: str) -> Process | None:
        """The running process of the daemon; None if it is not running."""
        try:
            record = json.loads((self._folder / f"{name}.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        process = Process(record["pid"], record["start"])
        return process if process.alive() else None

    def start(
        self,
        name: str,
        command: list[str],
        namespace: str,
        environment: Mapping[str, str] | None = None,
    ) -> bool:
        """Start the daemon in a network namespace unless it runs; True if it was started."""
        if self.get(name):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        # The shell ends at once, so the daemon is init's child and never our zombie; `setsid`
        # and `nsenter` replace themselves, so the printed id stays the daemon's.
        answer = subprocess.run(
            ["sh", "-c", 'exec 3>&1; setsid "$@" >>"$0" 2>&1 3>&- </dev/null & echo $! >&3']
            + [str(self.log(name)), *enter(namespace), *command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        process = Process.of(int(answer.stdout))
        if process is None:
            raise LabError(f"{name} died at once: {self.last_words(name)}")
        record = self._folder / f".{name}"
        record.write_text(json.dumps({"pid": process.pid, "start": process.start}))
        record.replace(self._folder / f"{name}.json")
        return True

    def stop(self, name: str, seconds: float = STOP_SECONDS) -> bool:
        """End the daemon if it runs and forget it; True if it was running."""
        process = self.get(name)
        if process:
            process.end(seconds)
        (self._folder / f"{name}.json").unlink(missing_ok=True)
        return process is not None

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The end of the daemon's log, for an error message."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return " | ".join(lines[-3:]) or "(empty log)"
