"""The server process: start, stop, follow, promote. Owns the postmaster and what is under it.

It always starts as a standby that follows nobody (law, point 4); only the private server of an
initialization writes. What it does is read from postmaster.pid and from the process titles, so it
works for a warm standby, which answers no SQL.
"""

from __future__ import annotations

import enum
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pgha.lsn import LSN
from pgha.postgres import conf as c
from pgha.postgres.conf import ServerConf
from pgha.postgres.directory import Directory, DirectoryError

__all__ = ["Receiver", "Server", "ServerConf", "ServerState"]

POLL = 0.005  # seconds
# A backend's title begins with a user's name, and says "startup" while a client logs in.
_TITLES = {
    "startup": r"startup(?:\s+(?:recovering|waiting)\b|\s*$)",
    "walreceiver": r"walreceiver(?:\s+(?:streaming|waiting)\b|\s*$)",
    "walsender": rf"walsender {c.REPLICATION_USER} ",
}
_STREAMING = re.compile(r"walreceiver\s+streaming ([0-9A-F]+/[0-9A-F]+)")


class ServerState(enum.Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    RECOVERING = "recovering"
    STANDBY = "standby"
    PRIMARY = "primary"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Receiver:
    """The WAL receiver process; `lsn` is what it has flushed, None before its first flush."""

    pid: int
    lsn: LSN | None


class Server:
    """`keep_fd` is inherited by PostgreSQL: an exclusive lock on it proves its end."""

    def __init__(
        self, directory: Directory, bin: Path, run_dir: Path, keep_fd: int | None = None
    ) -> None:
        self._directory, self._bin, self._run = directory, bin, run_dir
        self._keep = keep_fd
        self._process: subprocess.Popen[bytes] | None = None
        self._conf: ServerConf | None = None
        self._stopping = False
        self._follow = ("", "")  # conninfo, slot
        self._sync = ""

    # -- starting and ending --------------------------------------------------------------------

    def start(self, conf: ServerConf) -> None:
        """Start read-only, attached to nobody."""
        self._directory.drop_stubs()
        self._directory.scrub_auto_conf(c.OWNED)
        self._directory.write_standby_signal()
        self._spawn(conf, private=False)

    def start_private(self, conf: ServerConf, timeout: float = 60.0) -> None:
        """Read-write on the unix socket alone, for the initialization; waits until it answers."""
        self._directory.scrub_auto_conf(c.OWNED)
        (self._directory.pgdata / "standby.signal").unlink(missing_ok=True)
        self._spawn(conf, private=True)
        deadline = time.monotonic() + timeout
        while self.poll() is not ServerState.PRIMARY:
            if not self.running() or time.monotonic() > deadline:
                raise DirectoryError(f"PostgreSQL did not start in {timeout:.0f} s: see its log")
            time.sleep(POLL)

    def _spawn(self, conf: ServerConf, private: bool) -> None:
        if self.running():
            return
        (self._directory.pgdata / "postmaster.pid").unlink(missing_ok=True)
        self._conf, self._stopping = conf, False
        self._follow, self._sync = ("", ""), ""
        c.write_dynamic(self._run)
        path = c.write(conf, self._run, private)
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._directory.pgdata, "-c", f"config_file={path}"],
            start_new_session=True,
            pass_fds=() if self._keep is None else (self._keep,),
        )

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def exit(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def stop(self, mode: Literal["fast", "immediate"], timeout: float) -> bool:
        """True once the postmaster and all its children are gone."""
        self._stopping = True
        deadline = time.monotonic() + timeout
        self._signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return self._all_gone(max(0.2, deadline - time.monotonic()))

    def kill(self, timeout: float) -> bool:
        """SIGKILL to every process of this server, again until none is left."""
        deadline = time.monotonic() + timeout
        while True:
            pids = list(self._processes())
            if not pids and not self.running():
                return True
            for pid in pids:
                _kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
            self.reap()

    def _all_gone(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while any(self._processes()):
            if time.monotonic() > deadline:
                return False
            self.reap()
            time.sleep(POLL)
        return True

    def _signal(self, number: int) -> None:
        if self._process is not None and self.running():
            _kill(self._process.pid, number)

    def reap(self) -> None:
        """As PID 1: take the orphans that PostgreSQL left, never a child that is waited for."""
        if os.getpid() != 1:
            return
        own = self._process.pid if self._process else 0
        for pid in _children(1):
            name, state = _stat(pid)
            if state == "Z" and name == "postgres" and pid != own:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue

    # -- seeing ---------------------------------------------------------------------------------

    def poll(self) -> ServerState:
        """From the process table and postmaster.pid; asks no SQL."""
        if not self.running():
            return ServerState.STOPPED
        status = self._status()
        if self._stopping or status == "stopping":
            return ServerState.STOPPING
        if status == "starting":
            return ServerState.RECOVERING if self._titles("startup") else ServerState.STARTING
        if status == "standby":
            return ServerState.STANDBY
        if status == "ready":
            if self._titles("startup") or self.in_recovery():
                return ServerState.STANDBY
            return ServerState.PRIMARY
        return ServerState.STARTING

    def in_recovery(self) -> bool:
        """PostgreSQL removes standby.signal when it ends recovery."""
        return (self._directory.pgdata / "standby.signal").exists()

    def _status(self) -> str:
        try:
            lines = (self._directory.pgdata / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        if self._process is None or not lines or lines[0].strip() != str(self._process.pid):
            return ""
        return lines[7].strip() if len(lines) > 7 else ""

    def receiver(self) -> Receiver | None:
        for pid, title in self._titles("walreceiver"):
            found = _STREAMING.search(title)
            return Receiver(pid, LSN.parse(found[1]) if found else None)
        return None

    def walsenders(self) -> list[str]:
        return [title for _, title in self._titles("walsender")]

    def _titles(self, what: str) -> list[tuple[int, str]]:
        if self._process is None:
            return []
        name = re.escape(self._conf.name) if self._conf else ""
        found = []
        for pid in _children(self._process.pid):
            title = _title(pid)
            if re.match(rf"postgres: (?:{name}: )?{_TITLES[what]}", title):
                found.append((pid, title))
        return found

    def _processes(self) -> Iterator[int]:
        """Every live process that has the data directory as its working directory."""
        where = os.path.realpath(self._directory.pgdata)
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                here = os.readlink(f"/proc/{entry}/cwd") == where
            except OSError:
                continue
            if here and _stat(int(entry))[1] != "Z":
                yield int(entry)

    # -- following and leading ------------------------------------------------------------------

    def attach(
        self, host: str, port: int, password: str, application_name: str, slot: str | None
    ) -> None:
        """Follow `host`, by a reload."""
        assert self._conf is not None
        c.write_pgpass(self._run, password)
        info = c.conninfo(host, port, application_name, self._run, self._conf.tls)
        self._follow = (info, slot or "")
        self._write_dynamic()

    def detach(self, timeout: float) -> bool:
        """Follow nobody; True once no receiver is left. A reload alone is not bounded, so after
        half the time the receiver is told to end."""
        self._follow = ("", "")
        self._write_dynamic()
        began, told = time.monotonic(), False
        gone_at: float | None = None
        while time.monotonic() - began < timeout:
            receiver = self.receiver()
            now = time.monotonic()
            if receiver is None:
                # One may just be starting from the former setting: look for a while.
                gone_at = gone_at or now
                if now - gone_at > 0.05:
                    return True
            else:
                gone_at = None
                if not told and now - began > timeout / 2:
                    _kill(receiver.pid, signal.SIGTERM)
                    told = True
            if not self.running():
                return True
            time.sleep(POLL)
        return False

    def attached_to(self) -> str | None:
        return self._follow[0] or None

    def sync_names(self) -> str:
        """What was written last; SQL says what is active."""
        return self._sync

    def set_sync_names(self, value: str) -> None:
        self._sync = value
        self._write_dynamic()

    def _write_dynamic(self) -> None:
        c.write_dynamic(self._run, *self._follow, self._sync)
        self.reload()

    def reload(self) -> None:
        self._signal(signal.SIGHUP)

    def promote(self) -> None:
        """As `pg_ctl promote --no-wait`."""
        (self._directory.pgdata / "promote").write_bytes(b"")
        self._signal(signal.SIGUSR1)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []


def _title(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        return raw.replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """A process's short name and its state letter."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", "Z"
    return text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2]
