"""The end of WAL on disk is exactly where recovery ends, whatever happened before.

The judge is PostgreSQL: it replays a copy of the same files to their end and is promoted there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from pgha.lsn import LSN, History, Position, Switch
from pgha.postgres import wal
from pgha.postgres.control import DirectoryError
from pgha.postgres.server import ServerState
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import Node, eventually, instead_of, one_version

pytestmark = pytest.mark.integration

WITHIN = 20.0  # seconds


def end(node: Node) -> Position:
    return node.directory.end_of_wal(WITHIN)


def judged(node: Node) -> LSN:
    """Where recovery ends on these files: the point at which a copy of them is promoted."""
    judge = Node(node.name, port=5499, base=Path(tempfile.mkdtemp(prefix="judge-", dir="/data")))
    shutil.copytree(node.pgdata, judge.pgdata, symlinks=True)
    judge.pgdata.chmod(0o700)
    judge.with_conf(name="judge").started().promoted()
    timeline = judge.sql.timeline(WITHIN)
    assert timeline is not None
    fork = judge.directory.history(timeline)[-1].at
    judge.stopped()
    shutil.rmtree(judge.base)
    return fork


@contextmanager
def load(node: Node) -> Iterator[None]:
    """Clients that write records of many sizes until the server dies."""
    stop = threading.Event()

    def write(n: int) -> None:
        try:
            with node.connect() as connection:
                for i in itertools.count(n):
                    if stop.is_set():
                        return
                    connection.execute(
                        "INSERT INTO load VALUES (repeat(md5(random()::text), %s))", (i % 700,)
                    )
        except psycopg.Error:
            return

    node.ask("CREATE TABLE IF NOT EXISTS load (t text)")
    node.ask("ALTER TABLE load ALTER t SET STORAGE EXTERNAL")
    threads = [threading.Thread(target=write, args=(n,)) for n in (0, 333)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_after_a_kill_under_load(image: Place) -> None:
    node = Node("ha-0").leading()
    before = node.sql.flush_lsn()
    with load(node):
        eventually("much is written", lambda: node.sql.flush_lsn() > before + (20 << 20))
        acknowledged = node.sql.flush_lsn()
        node.crash()
    found = end(node)
    assert found.timeline == 2 and found.lsn >= acknowledged
    assert judged(node) == found.lsn
    assert end(node) == found, "a restart without new WAL changes nothing"


def test_after_a_clean_stop(image: Place) -> None:
    """The end of the shutdown checkpoint's record; pg_controldata gives its start."""
    node = Node("ha-0").leading()
    node.ask("CREATE TABLE t AS SELECT generate_series(1, 10000)")
    node.stopped()
    found, control = end(node), node.directory.control()
    assert control.state == "shut down"
    assert control.checkpoint < found.lsn <= control.checkpoint + 200
    assert judged(node) == found.lsn


def test_after_a_switch_of_segments(image: Place) -> None:
    node = Node("ha-0").leading()
    size = node.directory.control().segment_size
    for _ in range(2):
        node.ask("SELECT pg_logical_emit_message(true, 'x', 'y')")
        node.ask("SELECT pg_switch_wal()")
    node.crash()
    found = end(node)
    assert found.lsn % size == 0, "the next segment is empty"
    assert judged(node) == found.lsn


@one_version
def test_where_the_last_segment_is_full_and_no_other_is_there(image: Place) -> None:
    node = Node("ha-0").leading()
    node.ask("SELECT pg_switch_wal()")
    node.crash()
    size = node.directory.control().segment_size
    shape = wal.Shape(size, node.directory.control().system_id)
    boundary = end(node).lsn // size * size
    for path in node.wal.iterdir():
        if len(path.name) == 24 and path.name >= shape.name(2, boundary // size):
            path.unlink()
    assert end(node) == Position(2, LSN(boundary))
    assert judged(node) == boundary


@one_version
def test_every_alignment_to_pages_and_segments(image: Place) -> None:
    """Records that end at, before and after page ends, and that cross pages and segments."""
    node = Node("ha-0", wal_writer_delay="10s", bgwriter_delay="10s").leading()
    size = node.directory.control().segment_size
    with node.connect() as connection:
        for length in (1, 8000, 8100, 9000, 20_000, size - 100_000, 70_000, 200_000, 12_345):
            connection.execute(
                "SELECT pg_logical_emit_message(true, 'x', repeat('y', %s))", (length,)
            )
            row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            assert row is not None
            assert end(node).lsn == LSN.parse(row[0]), f"after {length} bytes"
    node.crash()
    assert judged(node) == end(node).lsn


def test_a_record_torn_at_its_end_is_none(image: Place) -> None:
    node = Node("ha-0").leading()
    node.ask("SELECT pg_logical_emit_message(false, 'x', repeat('y', 100000))")
    node.ask("SELECT pg_logical_emit_message(true, 'x', repeat('z', 100000))")
    node.crash()
    whole = end(node)
    control = node.directory.control()
    shape = wal.Shape(control.segment_size, control.system_id)
    at = whole.lsn - 50_000
    with open(node.wal / shape.name(2, shape.number(at)), "r+b") as file:
        file.seek(at % control.segment_size)
        file.write(b"\xa5" * 16)
    torn = end(node)
    assert torn.lsn < at
    assert judged(node) == torn.lsn


def test_segments_that_were_made_ahead_are_not_followed(image: Place) -> None:
    """An empty one, one that was recycled, and one of another cluster, wherever the folder's
    listing puts them."""
    node = Node("ha-0").leading()
    node.ask("CREATE TABLE t AS SELECT generate_series(1, 10000)")
    node.crash()
    found = end(node)
    control = node.directory.control()
    shape = wal.Shape(control.segment_size, control.system_id)
    here = shape.number(found.lsn)
    last = node.wal / shape.name(2, here)
    after = node.wal / shape.name(2, here + 1)
    for path in node.wal.iterdir():
        if len(path.name) == 24 and path.name > last.name:
            path.unlink()
    after.write_bytes(bytes(control.segment_size))
    (node.wal / shape.name(2, here + 2)).write_bytes(bytes(control.segment_size))
    assert end(node) == found
    shutil.copyfile(last, after)
    assert end(node) == found
    header = bytearray(last.read_bytes())
    struct.pack_into("<Q", header, 8, (here + 1) * control.segment_size)
    struct.pack_into("<Q", header, 24, control.system_id + 1)
    after.write_bytes(header)
    assert end(node) == found
    assert judged(node) == found.lsn


def test_after_a_promotion_that_no_checkpoint_followed(image: Place) -> None:
    """pg_control still tells of the former timeline's checkpoint."""
    node = Node("ha-0").leading()
    node.sql.checkpoint(WITHIN)
    node.crash()
    node.started()
    node.promoted()
    node.ask("SELECT pg_logical_emit_message(true, 'x', 'y')")
    node.crash()
    found = end(node)
    assert found.timeline == 3
    assert judged(node) == found.lsn
    assert found == end(node)


def test_a_standby_across_timelines(image: Place) -> None:
    """It received the new timeline's segment from its start, as every receiver does."""
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).following(primary)
    other = Node("ha-2", port=5434).following(primary)
    primary.ask("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    flushed = primary.sql.flush_lsn()
    for node in (standby, other):
        eventually("it is there", lambda node=node: (node.received() or 0) >= flushed)  # type: ignore[misc]
    primary.crash()
    assert standby.server.detach(5.0)
    assert Position(2, flushed) <= end(standby) <= end(primary)
    standby.promoted()
    other.attached(standby)
    standby.ask("SELECT pg_logical_emit_message(true, 'x', 'y')")
    flushed = standby.sql.flush_lsn()
    eventually("it is there", lambda: (other.received() or 0) >= flushed)
    assert other.server.detach(5.0)
    assert end(other) == Position(3, flushed)
    other.with_conf(hot=True).stopped()
    other.started()
    assert other.replayed() == flushed, "as PostgreSQL itself says"
    other.crash()
    assert end(other) == Position(3, flushed)
    assert judged(other) == flushed


@one_version
def test_a_segment_of_the_new_timeline_that_was_only_begun(image: Place) -> None:
    """Recovery takes the newest timeline's file, even where an older one's has more."""
    primary = Node("ha-0").leading()
    for _ in range(3):
        primary.ask("SELECT pg_logical_emit_message(true, 'x', repeat('y', 20000))")
    primary.crash()
    old = end(primary)
    control = primary.directory.control()
    shape = wal.Shape(control.segment_size, control.system_id)
    number = shape.number(old.lsn)
    content = (primary.wal / shape.name(2, number)).read_bytes()
    switches = (*primary.directory.history(2), Switch(2, old.lsn))
    (primary.wal / "00000003.history").write_text(History(switches).text())
    kept = old.lsn % control.segment_size - 30_000
    begun = content[:kept].ljust(control.segment_size, b"\0")
    (primary.wal / shape.name(3, number)).write_bytes(begun)
    found = end(primary)
    assert found.lsn < old.lsn and found.timeline == 2
    assert judged(primary) == found.lsn


@one_version
def test_a_branch_that_is_not_ours_is_not_followed(image: Place) -> None:
    """PostgreSQL would refuse to start on it; what counts is the own history."""
    node = Node("ha-0").leading()
    fork = node.sql.flush_lsn()
    node.ask("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    node.sql.checkpoint(WITHIN)
    node.crash()
    found = end(node)
    history = History((*node.directory.history(2), Switch(2, fork)))
    (node.wal / "00000003.history").write_text(history.text())
    control = node.directory.control()
    shape = wal.Shape(control.segment_size, control.system_id)
    for number in range(shape.number(fork), shape.number(found.lsn) + 1):
        begun = (node.wal / shape.name(2, number)).read_bytes()[: wal.PAGE]
        other = node.wal / shape.name(3, number)
        other.write_bytes(begun.ljust(control.segment_size, b"\0"))
    assert end(node) == found
    assert found.timeline == 2


@one_version
def test_a_copy_begins_where_its_label_says(image: Place) -> None:
    primary = Node("ha-0").leading()
    primary.ask("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    standby = Node("ha-1", port=5433).following(primary)
    standby.crash()
    found = end(standby)
    (standby.pgdata / "backup_label.old").rename(standby.pgdata / "backup_label")
    assert end(standby) == found
    (standby.pgdata / "backup_label").write_text("nonsense")
    with pytest.raises(DirectoryError, match="clone"):
        end(standby)


@one_version
def test_what_a_message_says_is_no_record(image: Place) -> None:
    """Any user may write into WAL what pg_waldump then prints."""
    node = Node("ha-0", autovacuum="off", bgwriter_delay="10s").leading()
    lie = (
        "x\nrmgr: XLOG        len (rec/tot):     24/    24, tx:          0, "
        "lsn: F/F0000028, prev F/F0000000, desc: SWITCH "
    )
    with node.connect() as connection:
        row = connection.execute(
            "SELECT pg_logical_emit_message(false, %s, '')::text", (lie,)
        ).fetchone()
        assert row is not None
        said = LSN.parse(row[0])
    eventually("it is written", lambda: node.sql.flush_lsn() >= said)
    node.crash()
    found = end(node)
    assert said <= found.lsn < LSN.parse("F/0")
    assert judged(node) == found.lsn


@one_version
def test_a_gigabyte_is_read_in_a_moment_and_a_known_position_spares_that(image: Place) -> None:
    node = Node(
        "ha-0", max_wal_size="20GB", checkpoint_timeout="1h", synchronous_commit="off",
        autovacuum="off",
    ).leading()  # fmt: skip
    node.ask("CREATE TABLE t (a int, b text)")
    node.sql.checkpoint(WITHIN)
    begin = node.sql.flush_lsn()
    while node.sql.flush_lsn() < begin + (256 << 20):
        node.ask("INSERT INTO t SELECT g, 'some text' FROM generate_series(1, 500000) g")
        node.ask("TRUNCATE t")
    node.sql.alive(WITHIN)
    flushed = node.sql.flush_lsn()
    node.crash()
    found = end(node)
    assert found.lsn >= flushed
    whole = node.directory.bin
    node.directory.bin = instead_of(
        "pg_waldump", whole, f'echo "$@" >>/tmp/started\nexec {whole}/pg_waldump "$@"'
    )
    assert node.directory.end_of_wal(WITHIN, flushed=flushed) == found
    node.directory.bin = whole
    assert judged(node) == found.lsn
    started = [line for line in Path("/tmp/started").read_text().splitlines() if "--quiet" in line]
    assert len(started) == 1
    since = LSN.parse(started[0].split(" -s ")[1].split()[0])
    assert flushed - since <= 2 * node.directory.control().segment_size


@one_version
def test_while_a_standby_runs(image: Place) -> None:
    """A vote reads the position of a running, detached standby."""
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).following(primary)
    with load(primary):
        begin = primary.sql.flush_lsn()
        eventually("much is received", lambda: (standby.received() or 0) > begin + (5 << 20))
        os.kill(int((primary.pgdata / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    assert standby.server.detach(10.0)
    found = end(standby)
    standby.reaches(ServerState.STANDBY)
    assert judged(standby.stopped()) == found.lsn
