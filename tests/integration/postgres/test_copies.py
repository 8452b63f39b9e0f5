"""Clone and rewind: what comes out, and what is left when they are ended midway."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pgha.lsn import branch
from pgha.postgres import copying
from pgha.postgres.copying import CopyFailed
from pgha.postgres.directory import DirectoryState
from pgha.postgres.server import ServerState
from tests.integration.postgres.inside import LOG, SMALL, Place
from tests.integration.postgres.nodes import (
    ADDRESS,
    REPLICATION_PASSWORD,
    Node,
    eventually,
    instead_of,
    one_version,
)

pytestmark = pytest.mark.integration

WITHIN = 60.0  # seconds


def never() -> bool:
    return False


def clone(node: Node, cancelled: Callable[[], bool] = never, rate: int | None = None) -> None:
    copying.clone(
        ADDRESS, REPLICATION_PASSWORD, node.directory, node.run, cancelled, WITHIN, rate
    )


def rewind(node: Node, cancelled: Callable[[], bool] = never) -> None:
    copying.rewind(
        ADDRESS, REPLICATION_PASSWORD, node.directory, node.server, node.conf, node.run,
        cancelled, WITHIN,
    )  # fmt: skip


def running(program: str) -> list[int]:
    """Processes of that name which still do something."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            text = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        name, state = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2]
        if entry.isdigit() and name == program and state != "Z":
            found.append(int(entry))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def diverged(hot: bool = False) -> tuple[Node, Node]:
    """A primary on timeline 3, and the crashed former one, which wrote more than it told."""
    old = Node("ha-1", port=5433, hot=hot).leading()
    new = Node("ha-0", hot=hot)
    old.ask("CREATE TABLE kept AS SELECT generate_series(1, 100) n")
    new.following(old)
    assert new.server.detach(5.0)
    old.ask("CREATE TABLE lost AS SELECT generate_series(1, 1000) n")
    old.ask("UPDATE kept SET n = -n")
    old.ask("CHECKPOINT")
    old.ask("DELETE FROM kept WHERE n % 2 = 0")
    old.crash()
    new.promoted()
    new.ask("INSERT INTO kept SELECT generate_series(101, 150)")
    new.ask("CHECKPOINT")
    return new, old


def follows(node: Node, primary: Node) -> None:
    """The copy streams from the primary, and holds the same rows after a promotion."""
    assert node.directory.state() is DirectoryState.READY, node.directory.explain()
    node.server.start(node.conf)
    node.attached(primary)
    rows = primary.ask("SELECT array_agg(n ORDER BY n) FROM kept")
    primary.crash()
    assert node.server.detach(5.0)
    node.promoted()
    assert node.ask("SELECT array_agg(n ORDER BY n) FROM kept") == rows
    assert node.ask("SELECT count(*) FROM pg_class WHERE relname = 'lost'") == 0
    failures = "SELECT count(*) FROM pg_stat_database WHERE checksum_failures > 0"
    assert node.ask(failures) == 0


def test_a_clone_takes_the_place_and_follows(image: Place) -> None:
    primary = Node("ha-0").leading()
    primary.ask("CREATE TABLE kept AS SELECT generate_series(1, 100) n")
    standby = Node("ha-1", port=5433).filled()
    former = standby.directory.directory_id
    standby.directory.mark_dirty("a test")
    clone(standby)
    assert standby.directory.directory_id not in (None, former, primary.directory.directory_id)
    assert sorted(p.name for p in standby.base.iterdir()) == ["pgdata", "pgha"]
    assert REPLICATION_PASSWORD not in LOG.read_text()
    follows(standby, primary)


@one_version
def test_a_clone_that_is_given_up_leaves_what_was_there(image: Place) -> None:
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).filled()
    before = contents(standby.pgdata)
    side = standby.base / "pgdata.clone"
    seen: list[float] = []

    def enough() -> bool:
        if not seen and side.exists() and any(side.rglob("PG_VERSION")):
            seen.append(time.monotonic())
        return bool(seen)

    with pytest.raises(CopyFailed, match="given up"):
        clone(standby, enough, rate=2**20)
    assert contents(standby.pgdata) == before
    assert standby.directory.state() is DirectoryState.READY
    assert not side.exists()
    assert not running("pg_basebackup")
    eventually("its walsenders are gone", lambda: primary.server.walsenders() == [])


@one_version
@pytest.mark.parametrize("victim", ["program", "primary"])
def test_a_clone_that_dies_leaves_what_was_there(image: Place, victim: str) -> None:
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).filled()
    before = contents(standby.pgdata)

    def strike() -> None:
        eventually("the clone runs", lambda: running("pg_basebackup"))
        eventually("it receives", lambda: (standby.base / "pgdata.clone" / "base").exists())
        if victim == "primary":
            primary.crash()
        else:
            os.kill(min(running("pg_basebackup")), signal.SIGKILL)

    striker = threading.Thread(target=strike)
    striker.start()
    with pytest.raises(CopyFailed, match=f"clone from {ADDRESS} failed"):
        clone(standby, rate=2**20)
    striker.join()
    assert contents(standby.pgdata) == before
    assert standby.directory.state() is DirectoryState.READY
    assert not (standby.base / "pgdata.clone").exists()
    assert not running("pg_basebackup"), "the child that receives WAL is gone as well"


@one_version
def test_a_clone_that_ended_between_its_last_steps(image: Place) -> None:
    """The former directory is kept until a clone is whole; it never starts meanwhile."""
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).filled()
    standby.directory.mark_dirty("a clone takes its place")
    standby.pgdata.rename(standby.base / "pgdata.old")
    assert standby.directory.state() is DirectoryState.DIRTY
    primary.stopped()
    with pytest.raises(CopyFailed):
        clone(standby)
    assert (standby.pgdata / "PG_VERSION").exists(), "there is no other copy yet"
    assert standby.directory.state() is DirectoryState.DIRTY
    primary.started().promoted()
    clone(standby)
    assert standby.directory.state() is DirectoryState.READY
    assert not (standby.base / "pgdata.old").exists()


@one_version
def test_a_clone_where_two_do_not_fit(image: Place) -> None:
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433, base=SMALL / "ha-1").filled()
    (standby.pgdata / "ballast").write_bytes(bytes(60 << 20))
    with pytest.raises(CopyFailed):
        clone(standby)
    assert standby.directory.state() is DirectoryState.READY, "it is the only copy here"
    standby.directory.mark_dirty("a test")
    before = contents(standby.pgdata)
    with pytest.raises(CopyFailed, match="no other standby has a copy: grow the claim"):
        clone(standby)
    assert contents(standby.pgdata) == before
    Node("ha-2", port=5434).following(primary)
    clone(standby)
    assert standby.directory.state() is DirectoryState.READY
    assert primary.server.poll() is ServerState.PRIMARY


@one_version
def test_a_wrong_password_is_said(image: Place) -> None:
    primary = Node("ha-0").leading()
    primary.sql.setup_roles("postgres", "x", "the new one", None)
    standby = Node("ha-1", port=5433)
    with pytest.raises(CopyFailed, match="password authentication failed"):
        clone(standby)
    assert standby.directory.state() is DirectoryState.EMPTY


def test_a_diverged_primary_that_crashed_is_rewound(image: Place) -> None:
    new, old = diverged()
    end = old.directory.end_of_wal(WITHIN)
    histories = (
        old.directory.history(2), end.timeline, end.lsn, new.directory.history(3), 3
    )  # fmt: skip
    assert branch(*histories) == "diverged"
    former = old.directory.directory_id
    rewind(old)
    assert old.directory.dirty is None
    assert old.directory.directory_id not in (None, former, new.directory.directory_id)
    assert "--single" not in LOG.read_text()
    follows(old, new)


@one_version
def test_a_rewind_of_one_that_saw_the_new_timeline_already(image: Place) -> None:
    """It has fetched the history on which PostgreSQL refuses to start; and it is hot."""
    new, old = diverged(hot=True)
    (old.wal / "00000003.history").write_bytes((new.wal / "00000003.history").read_bytes())
    rewind(old)
    assert old.directory.dirty is None
    follows(old, new)


@one_version
def test_a_standby_that_crashed_is_rewound(image: Place) -> None:
    """It followed the one that diverged, and so diverged as well."""
    first = Node("ha-2", port=5434).leading()
    first.ask("CREATE TABLE kept AS SELECT generate_series(1, 100) n")
    new = Node("ha-0").following(first)
    old = Node("ha-1", port=5433).following(first)
    assert new.server.detach(5.0)
    first.ask("CREATE TABLE lost AS SELECT generate_series(1, 1000) n")
    old.catches_up(first)
    old.crash()
    first.crash()
    new.promoted()
    new.ask("CHECKPOINT")
    rewind(old)
    follows(old, new)


@one_version
@pytest.mark.parametrize("how", ["given up", "killed"])
def test_a_rewind_that_ends_midway_leaves_a_dirty_directory(image: Place, how: str) -> None:
    new, old = diverged()
    # It stops by itself where it has begun to write, so that it is caught there.
    old.directory.bin = instead_of(
        "pg_rewind", old.bin,
        f'{old.bin}/pg_rewind "$@" --progress 2>&1 | while read -r line; do\n'
        '  echo "$line" >>/tmp/rewinding\ndone\nsleep 60',
    )

    def begun() -> bool:
        said = Path("/tmp/rewinding")
        return said.exists() and "syncing" in said.read_text()

    def strike() -> None:
        eventually("the rewind has written", begun)
        os.kill(running("pg_rewind")[0], signal.SIGKILL)

    if how == "killed":
        striker = threading.Thread(target=strike)
        striker.start()
        with pytest.raises(CopyFailed, match="rewind from"):
            rewind(old)
        striker.join()
    else:
        with pytest.raises(CopyFailed, match="given up"):
            rewind(old, begun)
    assert not running("pg_rewind") and not running("sleep")
    assert old.directory.state() is DirectoryState.DIRTY
    assert f"a rewind from {ADDRESS} was begun" in old.directory.explain()
    old.directory.bin = old.bin
    clone(old)
    assert old.directory.state() is DirectoryState.READY
    follows(old, new)


@one_version
def test_a_rewind_whose_recovery_fails_says_so_and_spoils_nothing(image: Place) -> None:
    _, old = diverged()
    for path in old.wal.iterdir():
        if path.is_file():
            path.unlink()
    with pytest.raises(CopyFailed, match="recovery before the rewind"):
        rewind(old)
    assert old.directory.dirty is None
    assert old.server.poll() is ServerState.STOPPED


@one_version
def test_a_history_that_the_others_left_starts_on_its_own_timeline(image: Place) -> None:
    """As a person may choose it (rules/waiver.py): the file of the lost timeline may be here."""
    new, old = diverged()
    lost = "00000003.history"
    (old.wal / lost).write_bytes((new.wal / lost).read_bytes())
    new.crash()
    old.server.start(old.conf)
    eventually("it finds no way to the latest timeline", lambda: not old.server.running())
    old.with_conf(timeline="2").started().promoted()
    assert old.ask("SELECT count(*) FROM lost") == 1000
    assert old.sql.timeline(5.0) == 4, "a number is used once"
