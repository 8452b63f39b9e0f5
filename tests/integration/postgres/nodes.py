"""Servers as the tests see them: one directory, one port, driven through the adapters alone.

Code here and in the tests runs inside an image (see inside.py), with its own PID 1 and network.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from pgha.lsn import LSN
from pgha.postgres.conf import ServerConf
from pgha.postgres.directory import Directory
from pgha.postgres.server import Server, ServerState
from pgha.postgres.sql import Sql

ADDRESS = "127.0.0.1"
USERNAME, PASSWORD = "postgres", "a secret of the user"
REPLICATION_PASSWORD = "a secret: of the \\ members"
PKI = Path("/pki")
TEMPLATE = Path("/template")

T = TypeVar("T")
one_version = pytest.mark.parametrize("image", ["15"], indirect=True)


def bin_folder() -> Path:
    for folder in os.environ["PATH"].split(":"):
        if (Path(folder) / "initdb").exists():
            return Path(folder).resolve()
    raise AssertionError("no PostgreSQL on PATH")


def instead_of(program: str, real: Path, script: str) -> Path:
    """A folder with the programs of `real`, but for this one, which is that shell script."""
    folder = Path(tempfile.mkdtemp(prefix="programs-"))
    for each in real.iterdir():
        (folder / each.name).symlink_to(each)
    (folder / program).unlink()
    (folder / program).write_text(f"#!/bin/sh\n{script}\n")
    (folder / program).chmod(0o755)
    return folder


def eventually(what: str, condition: Callable[[], T], seconds: float = 20.0) -> T:
    """The condition's first truthy answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s, but {answer!r}"
        time.sleep(0.005)


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Node:
    """A member called `name`; `hot` and the parameters as a stack would declare them."""

    def __init__(
        self, name: str, port: int = 5432, hot: bool = False, base: Path | None = None,
        **parameters: str,
    ) -> None:  # fmt: skip
        self.name, self.port = name, port
        self.base = base or Path("/data") / name
        self.run = Path("/run/pgha") / name
        for folder in (self.base, self.run):
            folder.mkdir(parents=True, exist_ok=True)
        self.bin = bin_folder()
        self.directory = Directory(self.base / "pgdata", self.bin)
        self.server = Server(self.directory, self.bin, self.run)
        self.sql = Sql(self.run, USERNAME, port=port)
        self.conf = ServerConf(
            name=name, username=USERNAME, major=self.directory.major, hot=hot,
            parameters=parameters, certificate=PKI / "member.pem", port=port,
        )  # fmt: skip

    @property
    def pgdata(self) -> Path:
        return self.directory.pgdata

    @property
    def wal(self) -> Path:
        return self.pgdata / "pg_wal"

    # -- states ---------------------------------------------------------------------------------

    def filled(self) -> Node:
        """With a copy of the version's data directory."""
        shutil.copytree(TEMPLATE / "pgdata", self.pgdata, symlinks=True)
        self.pgdata.chmod(0o700)
        return self

    def started(self, state: ServerState = ServerState.STANDBY) -> Node:
        self.server.start(self.conf)
        return self.reaches(state)

    def reaches(self, state: ServerState, seconds: float = 20.0) -> Node:
        eventually(f"{self.name} is {state.value}", lambda: self.server.poll() is state, seconds)
        return self

    def promoted(self) -> Node:
        self.server.promote()
        return self.reaches(ServerState.PRIMARY)

    def leading(self) -> Node:
        """Filled, started, and a primary on timeline 2."""
        return self.filled().started().promoted()

    def following(self, primary: Node) -> Node:
        """Cloned by hand from a stopped or running primary, started and receiving."""
        subprocess.run(
            [
                self.bin / "pg_basebackup", "-D", self.pgdata, "-c", "fast", "-X", "stream", "-d",
                f"host={ADDRESS} port={primary.port} user=pgha_replication sslmode=require "
                f"passfile={primary.passfile()}",
            ],
            check=True,
        )  # fmt: skip
        self.directory.new_id()
        self.server.start(self.conf)
        return self.attached(primary)

    def attached(self, primary: Node) -> Node:
        """Receiving from the primary up to where it is now."""
        self.server.attach(ADDRESS, primary.port, REPLICATION_PASSWORD, self.name, None)
        return self.catches_up(primary)

    def catches_up(self, primary: Node) -> Node:
        """A receiver tells no position before it has written something: there is something."""
        eventually(f"{self.name} is heard of", lambda: self.name in primary.heard())
        primary.ask("SELECT pg_logical_emit_message(true, 'x', 'y')")
        end = primary.sql.flush_lsn()
        eventually(f"{self.name} has {end}", lambda: (self.received() or 0) >= end)
        return self

    def heard(self) -> set[str]:
        return {s.name for s in self.sql.replication() if s.state == "streaming"}

    def received(self) -> LSN | None:
        receiver = self.server.receiver()
        return receiver.lsn if receiver else None

    def passfile(self) -> Path:
        from pgha.postgres import conf

        conf.write_pgpass(self.run, REPLICATION_PASSWORD)
        return self.run / "pgpass"

    def crash(self) -> None:
        assert self.server.kill(10.0)

    def stopped(self) -> Node:
        assert self.server.stop("fast", 30.0)
        return self

    def with_conf(self, **changes: Any) -> Node:
        self.conf = replace(self.conf, **changes)
        return self

    # -- SQL ------------------------------------------------------------------------------------

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        """Through the unix socket, as the agent does."""
        return psycopg.connect(
            **{"host": str(self.run), "port": self.port, "user": USERNAME, "dbname": "postgres",
               "autocommit": True, "connect_timeout": 5, **more},
        )  # fmt: skip

    def ask(self, statement: str) -> Any:
        """The first column of the first row."""
        with self.connect() as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def show(self, setting: str) -> str:
        return str(self.ask(f"SHOW {setting}"))

    def replayed(self) -> LSN:
        """A hot standby's own word on how far recovery came."""
        return LSN.parse(str(self.ask("SELECT pg_last_wal_replay_lsn()::text")))


def make_template() -> None:
    """As the agent initializes a cluster, then a folder that can be copied."""
    node = Node("template", base=TEMPLATE)
    node.directory.initdb(USERNAME, 60.0)
    node.server.start_private(node.conf)
    node.sql.setup_roles(USERNAME, PASSWORD, REPLICATION_PASSWORD, "app")
    node.stopped()
    node.directory.new_id()
    node.directory.initialized()
