"""An initialization counts only after its private server, which writes, is gone in good order."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgha.copies import Copies
from pgha.peers.tls import TlsFiles
from pgha.postgres.copying import CopyFailed
from pgha.postgres.directory import Directory, DirectoryState
from pgha.postgres.server import Server, ServerConf
from pgha.postgres.sql import Sql, SqlError
from pgha.settings import Identity, Settings

pytestmark = pytest.mark.unit


class Fresh(Directory):
    """`initdb` writes what tells a data directory, and no more."""

    def initdb(self, username: str, timeout: float) -> None:
        self.write_note("initializing", {"by": username})
        self.pgdata.mkdir()
        (self.pgdata / "PG_VERSION").write_text("15\n")


class Private(Server):
    """Remembers what was done to it; stops if `stops`."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory, directory.pgdata, directory.pgdata)
        self.order: list[str] = []
        self.stops = True

    def start_private(self, conf: ServerConf, timeout: float = 60.0) -> None:
        self.order.append("started")

    def stop(self, mode: str, timeout: float) -> bool:
        self.order.append(f"{mode} stop")
        return self.stops

    def kill(self, timeout: float) -> bool:
        self.order.append("killed")
        return True


class Roles(Sql):
    fails = False

    def setup_roles(self, *who: str | None) -> None:
        if self.fails:
            raise SqlError("no roles")


class Ground:
    def __init__(self, folder: Path) -> None:
        for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "replicationPassword"):
            (folder / name).write_text("x")
        self.directory = Fresh(folder / "pgdata", folder)
        self.server = Private(self.directory)
        self.sql = Roles(folder, "postgres")
        self.copies = Copies(
            Settings("a", "n", "app", "15"), Identity("a-0", "u", "s"), self.directory,
            self.server, self.sql, folder, TlsFiles.in_folder(folder), folder, folder,
        )

    def initialize(self) -> None:
        self.copies.initialize(None, lambda: False)

    @property
    def initializing(self) -> bool:
        return self.directory.state() is DirectoryState.INITIALIZING


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_it_counts_after_a_stop_in_good_order(ground: Ground) -> None:
    ground.initialize()
    assert ground.server.order == ["started", "fast stop"]
    assert not ground.initializing and ground.directory.directory_id is not None


def test_what_does_not_stop_is_killed_and_does_not_count(ground: Ground) -> None:
    ground.server.stops = False
    with pytest.raises(CopyFailed, match="did not stop"):
        ground.initialize()
    assert ground.server.order == ["started", "fast stop", "killed"]
    assert ground.initializing and ground.directory.directory_id is None


def test_it_is_killed_also_where_the_roles_failed(ground: Ground) -> None:
    ground.server.stops, ground.sql.fails = False, True
    with pytest.raises(SqlError):
        ground.initialize()
    assert ground.server.order == ["started", "fast stop", "killed"]
