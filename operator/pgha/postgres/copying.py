"""Copies of the primary: clone and rewind. Owns the steps and their order; PostgreSQL is stopped.

A directory is given up only for a copy that is complete (I8); while one is being changed it is
marked dirty, and a dirty directory never starts (amendment 19). A copy has a new id.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pgha.postgres import conf as c
from pgha.postgres.conf import ServerConf
from pgha.postgres.directory import Directory, DirectoryError, sync_folder
from pgha.postgres.programs import complaint
from pgha.postgres.server import Server, ServerState
from pgha.postgres.wire import WireError, connected

POLL = 0.2  # seconds
KILOBYTE = 1024  # bytes in the unit of --max-rate
PORT = 5432
ROOM = 64 * 1024 * 1024  # bytes that must stay free beside a second copy
STOP_WITHIN = 30.0  # seconds for a fast stop after a recovery
LOOK_WITHIN = 10.0  # seconds for a look at who else receives from the source
END_POLL = 0.01  # seconds
END_WITHIN = 5.0  # seconds for a program to end in good order, and again to be gone
# What a copy brings along and must not have.
STRAYS = ("standby.signal", "recovery.signal", "postmaster.pid", "promote")


class CopyFailed(Exception):
    """One sentence: what was copied from where, what went wrong."""


def clone(
    source_host: str,
    password: str,
    directory: Directory,
    run_dir: Path,
    cancelled: Callable[[], bool],
    timeout: float,
    max_rate: int | None = None,
) -> None:
    """pg_basebackup into a folder beside PGDATA, then in its place. Raises CopyFailed.

    `max_rate`: bytes a second of data files; the WAL comes by a connection of its own, unlimited.
    """
    c.write_pgpass(run_dir, password)
    pgdata = directory.pgdata
    side, old = (pgdata.with_name(pgdata.name + suffix) for suffix in (".clone", ".old"))
    if old.exists() and not pgdata.exists():
        old.rename(pgdata)  # an earlier clone ended between its two last steps
    for leftover in (side, old):
        shutil.rmtree(leftover, ignore_errors=True)
    _make_room(directory, c.connection(source_host, PORT, "pgha-clone", run_dir, "postgres"))
    info = c.conninfo(source_host, PORT, "pgha-clone", run_dir)
    command: list[str | Path] = [
        directory.bin / "pg_basebackup", "-d", info, "-D", side,
        "--checkpoint=fast", "--wal-method=stream", "--no-password",
    ]  # fmt: skip
    if max_rate is not None:
        command.append(f"--max-rate={max_rate // KILOBYTE}")
    try:
        _run(command, f"clone from {source_host}", directory.kept, cancelled, timeout)
        directory.new_id(side)
        for stray in STRAYS:
            (side / stray).unlink(missing_ok=True)
        directory.mark_dirty("a clone takes its place")
        if pgdata.exists():
            pgdata.rename(old)
        side.rename(pgdata)
        sync_folder(pgdata.parent)
        directory.initialized()
        directory.clear_dirty()
    finally:
        shutil.rmtree(side, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _make_room(directory: Directory, source: Mapping[str, str]) -> None:
    """A dirty directory goes first where two do not fit, but only if the source is not the one
    good copy then (amendment 19): another standby receives from it."""
    if not directory.pgdata.exists() or directory.dirty is None:
        return
    needed = sum(f.stat().st_size for f in directory.pgdata.rglob("*") if f.is_file()) + ROOM
    free = directory.free_bytes()
    if free >= needed:
        return
    try:
        with connected(source, LOOK_WITHIN) as wire:
            standbys = wire.ask(
                "SELECT FROM pg_stat_replication WHERE application_name NOT LIKE 'pgha-%'"
            )
    except WireError as e:
        raise CopyFailed(f"clone from {source['host']}: whom it feeds is not known: {e}") from e
    if not standbys:
        raise CopyFailed(
            f"clone from {source['host']}: beside {directory.pgdata} {free >> 20} MB are free and "
            f"{needed >> 20} MB are needed, and no other standby has a copy: grow the claim, or "
            "wait for another standby"
        )
    directory.empty_out()


def rewind(
    source_host: str,
    password: str,
    directory: Directory,
    server: Server,
    conf: ServerConf,
    run_dir: Path,
    cancelled: Callable[[], bool],
    timeout: float,
) -> None:
    """pg_rewind from the primary, after its post-promotion checkpoint. Raises CopyFailed."""
    deadline = time.monotonic() + timeout
    try:
        if not directory.control().cleanly_stopped:
            _recover(directory, server, conf, cancelled, deadline)
    except DirectoryError as e:
        raise CopyFailed(f"recovery before the rewind: {e}") from e
    c.write_pgpass(run_dir, password)
    info = c.conninfo(source_host, PORT, "pgha-rewind", run_dir, dbname="postgres")
    directory.mark_dirty(f"a rewind from {source_host} was begun")
    _run(
        [
            directory.bin / "pg_rewind", f"--target-pgdata={directory.pgdata}",
            f"--source-server={info}", "--no-ensure-shutdown",
        ],
        f"rewind from {source_host}", directory.kept, cancelled, deadline - time.monotonic(),
    )  # fmt: skip
    directory.new_id()
    for stray in STRAYS:
        (directory.pgdata / stray).unlink(missing_ok=True)
    directory.clear_dirty()


def _recover(
    directory: Directory, server: Server, conf: ServerConf, cancelled: Callable[[], bool],
    deadline: float,
) -> None:  # fmt: skip
    """Replay the own WAL to its end, detached, as a standby; then stop cleanly.

    pg_rewind's own recovery would start a writable server without a lease. A crashed primary gets
    into archive recovery when it has replayed what is in pg_wal; a crashed standby is there at
    once, and pg_rewind reads its WAL up to the minimum recovery point. It stays on its own
    timeline: the file of the one that it left may be there already.
    """
    server.start(replace(conf, hot=False, timeline="current"))
    try:
        while not (
            server.poll() is ServerState.STANDBY
            and directory.control().state == "in archive recovery"
        ):
            if not server.running():
                raise DirectoryError("PostgreSQL did not survive its recovery: see its log")
            if cancelled():
                raise DirectoryError("it was given up: the primary changed")
            if time.monotonic() > deadline:
                raise DirectoryError("recovery did not reach the end of WAL in time")
            time.sleep(POLL)
    finally:
        if not server.stop("fast", STOP_WITHIN):
            server.kill(END_WITHIN)
    if not directory.control().cleanly_stopped:
        raise DirectoryError("PostgreSQL did not stop cleanly after its recovery")


def _run(
    command: Sequence[str | Path], what: str, kept: Sequence[int], cancelled: Callable[[], bool],
    timeout: float,
) -> None:
    """Raises CopyFailed. The program is a group of processes (pg_basebackup has a child that
    receives WAL), and none of it is left. `kept`: open files that it inherits."""
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryFile() as words:  # a pipe that nobody reads would fill up
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words,
            start_new_session=True, pass_fds=kept,
        )  # fmt: skip
        try:
            while process.poll() is None:
                if cancelled():
                    raise CopyFailed(f"{what} was given up: the primary changed")
                if time.monotonic() > deadline:
                    raise CopyFailed(f"{what} took longer than {timeout:.0f} s")
                time.sleep(POLL)
        finally:
            _end(process)
        words.seek(0)
        said = words.read().decode(errors="replace")
    if process.returncode != 0:
        raise CopyFailed(
            f"{what} failed: {complaint(said) or f'exit status {process.returncode}'}"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program's whole group; a child that outlived it has come to PID 1, which we are."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_WITHIN)
    deadline = time.monotonic() + END_WITHIN
    while process.returncode is not None and time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(-process.pid, os.WNOHANG)
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(END_POLL)
