"""PostgreSQL as a position in the WAL, for many members in one process. Owns no decision.

Stands in for what `pgha.agent` builds over a real server: directory, server, SQL, copies, fencer,
and the way to other members. WAL is a number that grows; a standby has what its primary has as
soon as somebody looks. Notes are real files, so that what the agent writes of its own accord is
written. What it leaves out is the cost of SQL, of the process table and of TLS between members:
`bench cost` measures those on real members.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgha.lsn import LSN, History, Position, Switch, branch
from pgha.peers.client import PeerUnreachable
from pgha.postgres.conf import ServerConf
from pgha.postgres.control import Control
from pgha.postgres.copying import CopyFailed
from pgha.postgres.directory import Directory, DirectoryError, DirectoryState
from pgha.postgres.server import Receiver, ServerState
from pgha.postgres.sql import Alive, Look, Sender, SlotState
from pgha.settings import Settings

BEGIN = 0x3000000  # where a new database's WAL ends
GROWTH = 128  # bytes that a look at a primary adds: its probe is a commit
PIDS = itertools.count(1000)
Handler = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Ground:
    """What the members of one cluster share: who is at which host, and who answers there."""

    places: dict[str, Place] = field(default_factory=dict)
    handlers: dict[str, Mapping[str, Handler]] = field(default_factory=dict)


@dataclass
class Place:
    """One member's database: what would be on its volume and in its process table."""

    ground: Ground
    name: str
    host: str
    lock: threading.RLock = field(default_factory=threading.RLock)
    system_id: int = 0  # 0: there is no database
    id: str | None = None
    timeline: int = 1
    history: History = field(default_factory=History)
    end: int = BEGIN
    clean: bool = True
    taken: set[int] = field(default_factory=set)  # timeline numbers that a stub takes
    state: ServerState = ServerState.STOPPED
    crashed: bool = False
    source: str | None = None  # the host that is followed
    receiver_pid: int = 0
    since: float = 0.0
    sync_names: str = ""
    slots: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ground.places[self.host] = self

    def receives(self) -> bool:
        """Take what the source has; False when nothing can be received from it."""
        source = self.ground.places.get(self.source or "")
        if self.state is not ServerState.STANDBY or source is None:
            return False
        if source.state is not ServerState.PRIMARY:
            return False
        fits = branch(
            self.history, self.timeline, LSN(self.end), source.history, source.timeline
        )
        if fits == "behind" or fits == "same" and self.end <= source.end:
            self.end, self.timeline, self.history = source.end, source.timeline, source.history
            return True
        return False

    def followers(self) -> list[Place]:
        return [p for p in self.ground.places.values() if p.source == self.host and p.receives()]

    def copy(self, source: Place) -> None:
        self.system_id, self.end = source.system_id, source.end
        self.timeline, self.history = source.timeline, source.history
        self.id, self.clean = secrets.token_hex(8), True

    def crash(self) -> None:
        """What SIGKILL of the postmaster does."""
        with self.lock:
            self.state, self.crashed, self.clean = ServerState.STOPPED, True, False
            self.source = None


class SimulatedDirectory(Directory):
    """The notes are real, in a folder of their own; the rest is the place's."""

    def __init__(self, place: Place, folder: Path) -> None:
        super().__init__(folder / "pgdata", folder)
        self.place = place

    def _judge(self) -> tuple[DirectoryState, str]:
        if (note := self.read_note("dirty")) is not None:
            return DirectoryState.DIRTY, f"marked dirty: {note.get('why')}"
        if not self.place.system_id:
            return DirectoryState.EMPTY, f"{self.pgdata} is empty"
        return DirectoryState.READY, ""

    def control(self) -> Control:
        p, end = self.place, LSN(self.place.end)
        state = "shut down" if p.clean else "in production"
        return Control(
            p.system_id, p.timeline, end, end, LSN(0), 0, state, 2**24, True, False, {}
        )

    def history(self, timeline: int) -> History:
        p = self.place
        if timeline == p.timeline:
            return p.history
        return History(s for s in p.history if s.timeline < timeline)

    def end_of_wal(self, timeout: float, flushed: LSN | None = None) -> Position:
        if not self.place.system_id:
            raise DirectoryError("there is no WAL")
        return Position(self.place.timeline, LSN(self.place.end))

    @property
    def directory_id(self) -> str | None:
        return self.place.id

    def stub_history(self, number: int, history: History, timeline: int, end: LSN) -> None:
        self.place.taken.add(number)


class SimulatedServer:
    """Stands in for `pgha.postgres.server.Server`; whatever is asked is done at once."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def poll(self) -> ServerState:
        return self._place.state

    def running(self) -> bool:
        return self._place.state is not ServerState.STOPPED

    def exit(self) -> int | None:
        return None if self.running() else -9 if self._place.crashed else 0

    def start(self, conf: ServerConf) -> None:
        p = self._place
        with p.lock:
            p.taken.clear()
            p.sync_names, p.crashed, p.clean, p.source = "", False, False, None
            p.state = ServerState.STANDBY

    def stop(self, mode: str, timeout: float) -> bool:
        p = self._place
        with p.lock:
            if p.state is ServerState.PRIMARY and mode == "fast":
                p.followers()  # a fast stop waits until everything is sent
            p.clean = mode == "fast"
            p.state, p.source = ServerState.STOPPED, None
        return True

    def kill(self, timeout: float) -> bool:
        if self.running():
            self._place.crash()
        return True

    def reap(self) -> None:
        """Nothing is left over."""

    def receiver(self) -> Receiver | None:
        p = self._place
        with p.lock:
            return Receiver(p.receiver_pid, LSN(p.end)) if p.receives() else None

    def attach(self, host: str, port: int, password: str, name: str, slot: str | None) -> None:
        p = self._place
        with p.lock:
            p.source, p.receiver_pid, p.since = host, next(PIDS), time.monotonic()

    def detach(self, timeout: float) -> bool:
        self._place.source = None
        return True

    def attached_to(self) -> str | None:
        return self._place.source

    @property
    def told(self) -> str:
        return self._place.sync_names

    def sync_names(self) -> str:
        return self._place.sync_names

    def set_sync_names(self, value: str) -> None:
        self._place.sync_names = value

    def waited(self) -> bool:
        return True

    def promote(self) -> None:
        p = self._place
        with p.lock:
            if p.state is not ServerState.STANDBY:
                return
            number = p.timeline + 1
            while number in p.taken:
                number += 1
            p.history = History((*p.history, Switch(p.timeline, LSN(p.end))))
            p.timeline, p.source, p.state = number, None, ServerState.PRIMARY


class SimulatedSql:
    """Stands in for `pgha.postgres.sql.Sql`."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def look(self, timeout: float) -> Look:
        p = self._place
        with p.lock:
            if p.state is not ServerState.PRIMARY:
                return Look(Alive.SILENT)
            p.end += GROWTH
            followers = p.followers()
            now = time.monotonic()
            senders = tuple(
                Sender(f.name, f.receiver_pid, "streaming", "async", LSN(f.end), 0.0,
                       int(now - f.since))
                for f in followers
            )
            used = {f"pgha_{f.name.replace('-', '_')}" for f in followers}
            slots = {s: SlotState(s in used, False) for s in p.slots}
            return Look(Alive.ALIVE, p.sync_names, LSN(p.end), senders, slots)

    def timeline(self, timeout: float) -> int | None:
        p = self._place
        return p.timeline if p.state is ServerState.PRIMARY else None

    def checkpoint(self, timeout: float) -> None:
        """There is nothing to write."""

    def checkpoints(self, names: str, timeout: float) -> bool:
        return names == self._place.sync_names

    def create_slot(self, name: str) -> None:
        self._place.slots.add(name)

    def drop_slot(self, name: str) -> None:
        self._place.slots.discard(name)

    def terminate(self, pid: int) -> None:
        """No name is there twice."""


class SimulatedCopies:
    """Stands in for `pgha.copies.Copies`: a copy takes no time, its steps are the agent's."""

    def __init__(self, settings: Settings, place: Place, directory: Directory) -> None:
        self._settings, self._place, self._directory = settings, place, directory

    def conf(self) -> ServerConf:
        return ServerConf(self._place.name, "postgres", self._settings.major)

    def replication_password(self) -> str:
        return "simulated"

    def apply_roles(self) -> None:
        """There are none."""

    def initialize(self, source: str | None, cancelled: Callable[[], bool]) -> None:
        p = self._place
        p.system_id, p.id, p.clean = secrets.randbits(60) + 1, secrets.token_hex(8), True

    def clone(self, source: str | None, cancelled: Callable[[], bool]) -> None:
        found = self._place.ground.places.get(self._settings.host(source or ""))
        if found is None or found.state is not ServerState.PRIMARY or cancelled():
            raise CopyFailed(f"{source} is no primary")
        with found.lock:
            self._place.copy(found)
        self._directory.clear_dirty()

    rewind = clone


class SimulatedGuard:
    """Stands in for the fencer's guard: nothing here can be killed, so nothing is."""

    def start(self) -> SimulatedGuard:
        return self

    def stop(self) -> None: ...

    def allow_until(self, deadline: float | None) -> None: ...

    def alive(self, within: float) -> bool:
        return True


class SimulatedPeers:
    """Client and server in one: calls are function calls, what they carry is JSON."""

    def __init__(self, ground: Ground, host: str, handlers: Mapping[str, Handler]) -> None:
        self._ground, self._host, self._own = ground, host, handlers

    def start(self) -> None:
        self._ground.handlers[self._host] = self._own

    def stop(self) -> None:
        self._ground.handlers.pop(self._host, None)

    def call(
        self, host: str, path: str, body: dict[str, Any] | None = None, timeout: float = 2.0
    ) -> dict[str, Any]:
        there = self._ground.handlers.get(host)
        if there is None:
            raise PeerUnreachable(f"{host}: nobody answers")
        try:
            answer = there[path](json.loads(json.dumps(body or {})))
        except Exception as error:
            raise PeerUnreachable(f"{host}: {path} failed ({error!r})") from error
        return dict(json.loads(json.dumps(answer)))

    def call_all(
        self, hosts: Mapping[str, str], path: str, body: dict[str, Any] | None = None,
        timeout: float = 2.0,
    ) -> dict[str, dict[str, Any] | PeerUnreachable]:
        found: dict[str, dict[str, Any] | PeerUnreachable] = {}
        for name, host in hosts.items():
            try:
                found[name] = self.call(host, path, body, timeout)
            except PeerUnreachable as error:
                found[name] = error
        return found


class SimulatedProbes:
    """No kubelet asks."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class SimulatedCertificate:
    """There are no clients to show one to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def refresh(self) -> bool:
        return False
