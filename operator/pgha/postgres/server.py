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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pgha.lsn import LSN
from pgha.postgres import conf as c
from pgha.postgres import orphans, processes
from pgha.postgres.conf import ServerConf
from pgha.postgres.directory import Directory, DirectoryError

__all__ = ["Receiver", "Server", "ServerConf", "ServerState"]

POLL = 0.005  # seconds
KILL_WITHIN = 5.0  # seconds

# Whole titles: a backend's begins with a user's name, which anybody may choose, but then come its
# database and its client's address. `idle` and `restarting from` are a receiver at the end of a
# timeline: it still has its connection.
_TITLES = {
    "startup": r"startup(?:\s+(?:recovering|waiting for) [0-9A-F]{24}.*|\s+performing .*"
    r"end-of-recovery.*)?",
    "walreceiver": r"walreceiver(?:\s+(?:streaming|restarting from) [0-9A-F]+/[0-9A-F]+"
    r"|\s+idle|\s+waiting)?",
    "checkpointer": r"checkpointer",
    "walsender": rf"walsender {c.REPLICATION_USER} .*",
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
    """PostgreSQL inherits what the directory keeps open: an exclusive lock proves its end."""

    def __init__(self, directory: Directory, bin: Path, run_dir: Path) -> None:
        self._directory, self._bin, self._run = directory, bin, run_dir
        self._orphans = orphans.Orphans()
        self._process: subprocess.Popen[bytes] | None = None
        self._conf: ServerConf | None = None
        self._stopping = False
        self._follow = ("", "")  # conninfo, slot
        self._sync = ""
        self._waited: bool | None = False

    # -- starting and ending --------------------------------------------------------------------

    def start(self, conf: ServerConf) -> None:
        """Start read-only, attached to nobody."""
        if self.running():
            return
        self._directory.drop_stubs()
        self._directory.write_standby_signal()
        self._spawn(conf, private=False)

    def start_private(self, conf: ServerConf, timeout: float = 60.0) -> None:
        """Read-write on the unix socket alone, for the initialization; waits until it answers.
        Raises DirectoryError, and then nothing runs."""
        (self._directory.pgdata / "standby.signal").unlink(missing_ok=True)
        self._spawn(conf, private=True)
        deadline = time.monotonic() + timeout
        while self.poll() is not ServerState.PRIMARY:
            if not self.running() or time.monotonic() > deadline:
                self.kill(KILL_WITHIN)
                raise DirectoryError(f"PostgreSQL did not start in {timeout:.0f} s: see its log")
            time.sleep(POLL)

    def _spawn(self, conf: ServerConf, private: bool) -> None:
        # PostgreSQL's own check would ask whether the number in postmaster.pid is a process: in
        # a new container it often is, and is another's. What lives on the directory is seen here.
        if not self.kill(KILL_WITHIN):
            raise DirectoryError(
                f"processes of a former PostgreSQL still use {self._directory.pgdata} and do not "
                "end: restart the pod, or its node if that does not help"
            )
        (self._directory.pgdata / "postmaster.pid").unlink(missing_ok=True)
        self._conf, self._stopping = conf, False
        self._follow, self._sync = ("", ""), "" if private else conf.sync_names
        self._waited = None if self._sync else False
        self._directory.scrub_auto_conf(c.OWNED)
        c.write_dynamic(self._run, sync_names=self._sync)
        path = c.write(conf, self._run, private)
        own = c.settings(conf, self._run, private)
        own |= c.archiving(conf, self._directory.auto_conf())
        if conf.hot and not private:
            own |= c.at_least(conf, self._directory.control().limits)
        # On the command line they win over ALTER SYSTEM as well.
        fixed = [x for name, value in own.items() for x in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._directory.pgdata, "-c", f"config_file={path}",
             *fixed],
            start_new_session=True,
            pass_fds=self._directory.kept,
        )  # fmt: skip

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
                processes.send(pid, signal.SIGKILL)
            if self.running() and self._process is not None:  # it may not be there yet
                self._process.kill()
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
            processes.send(self._process.pid, number)

    def _tell(self, number: int) -> None:
        """A signal that must not kill: before its handlers are there, PostgreSQL has not read
        its files either, and so will read what is in them now."""
        if self._process is not None and processes.catches(self._process.pid, number):
            self._signal(number)

    def reap(self) -> None:
        """As PID 1: take the orphans, those of PostgreSQL at once, for its end is seen by them;
        never a child that is waited for."""
        if os.getpid() != 1:
            return
        own = self._process.pid if self._process else 0
        dead = [pid for pid in processes.children(1) if pid != own and processes.gone(pid)]
        for pid in dead:
            if processes.name(pid) == "postgres":
                orphans.reap(pid)
        self._orphans.take(dead)

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
        return self._receiver(processes.children)

    def _receiver(self, children: Callable[[int], list[int]]) -> Receiver | None:
        for pid, title in self._titles("walreceiver", children):
            found = _STREAMING.search(title)
            return Receiver(pid, LSN.parse(found[1]) if found else None)
        return None

    def receives(self) -> bool:
        """Is there a receiver? Asks every process for its parent: none is missed."""
        return self._receiver(processes.all_children) is not None

    def walsenders(self) -> list[str]:
        return [title for _, title in self._titles("walsender")]

    def _titles(
        self, what: str, children: Callable[[int], list[int]] = processes.children
    ) -> list[tuple[int, str]]:
        if self._process is None:
            return []
        name = re.escape(self._conf.name) if self._conf else ""
        wanted = re.compile(rf"postgres: (?:{name}: )?{_TITLES[what]}")
        titles = [(pid, processes.title(pid)) for pid in children(self._process.pid)]
        return [(pid, title) for pid, title in titles if wanted.fullmatch(title)]

    def _processes(self) -> Iterator[int]:
        """Every live process of PostgreSQL with the data directory as its working directory: each
        makes a session of its own (law amendment 1). A person's shell there is left alone."""
        where = os.path.realpath(self._directory.pgdata)
        for pid in processes.everybody():
            if processes.name(pid) == "postgres" and processes.folder(pid) == where:
                if not processes.gone(pid):
                    yield pid

    # -- following and leading ------------------------------------------------------------------

    def attach(
        self, host: str, port: int, password: str, application_name: str, slot: str | None
    ) -> None:
        """Follow `host`, by a reload. The password is for this host: a receiver that was asked for
        before, and comes late, does not get into another."""
        assert self._conf is not None
        c.write_pgpass(self._run, password, host)
        info = c.conninfo(host, port, application_name, self._run)
        self._follow = (info, slot or "")
        self._write_dynamic()

    def detach(self, timeout: float) -> bool:
        """Follow nobody; True once no receiver is left and none can receive any more.

        A reload alone is not bounded (law amendments, "Facts corrected"): after half the time the
        receiver is told to end, and after three quarters it is killed, which ends PostgreSQL.
        Nor can its end be seen: a postmaster that has taken the signal may still read its files,
        and the startup process ask for a receiver meanwhile. So the password goes first: who has
        not its title yet has not read it either.
        """
        c.drop_pgpass(self._run)
        self._follow = ("", "")
        self._write_dynamic()
        began = time.monotonic()
        told: set[int] = set()
        while (passed := time.monotonic() - began) < timeout:
            if not self.running():
                return self._all_gone(max(0.0, timeout - passed))
            receiver = self.receiver()
            if receiver is None and signal.SIGKILL not in told and self._has_reloaded():
                if not self.receives():
                    return True
            for share, number in ((0.5, signal.SIGTERM), (0.75, signal.SIGKILL)):
                if receiver is not None and passed > share * timeout and number not in told:
                    processes.send(receiver.pid, number)
                    told.add(number)
            time.sleep(POLL)
        return False

    def _has_reloaded(self) -> bool:
        """Whoever could still start a receiver has taken the last SIGHUP."""
        assert self._process is not None
        asked = [self._process.pid, *(pid for pid, _ in self._titles("startup"))]
        return not any(processes.awaits(pid, signal.SIGHUP) for pid in asked)

    def attached_to(self) -> str | None:
        return self._follow[0] or None

    @property
    def told(self) -> str:
        """synchronous_standby_names as this agent wrote it last."""
        return self._sync

    def sync_names(self) -> str:
        """What the files say: what was written last, unless ALTER SYSTEM came after. SQL says
        what is active."""
        return self._directory.auto_conf().get("synchronous_standby_names", self._sync)

    def set_sync_names(self, value: str) -> None:
        self._sync = value
        if not value:
            self._waited = False
        self._write_dynamic()

    def waited(self) -> bool | None:
        """Was there always somebody to wait for since the start? Then every commit waits: only
        the checkpointer tells backends to, and did so when it began. None: it was not seen yet."""
        if self._waited is None and any(
            processes.listens(pid, signal.SIGHUP) for pid, _ in self._titles("checkpointer")
        ):
            self._waited = True
        return self._waited

    def _write_dynamic(self) -> None:
        self._directory.scrub_auto_conf(c.OWNED)
        c.write_dynamic(self._run, *self._follow, self._sync)
        self.reload()

    def reload(self) -> None:
        self._tell(signal.SIGHUP)

    def promote(self) -> None:
        """As `pg_ctl promote --no-wait`."""
        (self._directory.pgdata / "promote").write_bytes(b"")
        self._tell(signal.SIGUSR1)
