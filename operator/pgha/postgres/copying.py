"""Copies of the primary: clone and rewind. Owns the steps and their order; PostgreSQL is stopped.

A directory is given up only for a copy that is complete (I8); while one is being changed it is
marked dirty, and a dirty directory never starts (amendment 19). A copy has a new id.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pgha.peers.tls import TlsFiles
from pgha.postgres import conf as c
from pgha.postgres.directory import Directory, DirectoryError
from pgha.postgres.server import Server, ServerConf

POLL = 0.2  # seconds
PORT = 5432
ROOM = 64 * 1024 * 1024  # bytes that must stay free beside a second copy


class CopyFailed(Exception):
    """One sentence: what was copied from where, what went wrong."""


def clone(
    source_host: str,
    password: str,
    directory: Directory,
    run_dir: Path,
    tls: TlsFiles | None,
    cancelled: Callable[[], bool],
    timeout: float,
    max_rate: str | None = None,
) -> None:
    """pg_basebackup into a folder beside PGDATA, then in its place. Raises CopyFailed."""
    c.write_pgpass(run_dir, password)
    side = directory.pgdata.with_name(directory.pgdata.name + ".clone")
    old = directory.pgdata.with_name(directory.pgdata.name + ".old")
    for leftover in (side, old):
        shutil.rmtree(leftover, ignore_errors=True)
    _make_room(directory)
    info = c.conninfo(source_host, PORT, "pgha-clone", run_dir, tls)
    command = [
        str(directory.bin / "pg_basebackup"), "-d", info, "-D", str(side),
        "--checkpoint=fast", "--wal-method=stream", "--no-password",
    ]
    if max_rate:
        command.append(f"--max-rate={max_rate}")
    try:
        _run(command, f"clone from {source_host}", cancelled, timeout)
        directory.new_id(side)
        for stray in ("standby.signal", "recovery.signal", "postmaster.pid", "promote"):
            (side / stray).unlink(missing_ok=True)
        directory.mark_dirty("a clone takes its place")
        if directory.pgdata.exists():
            directory.pgdata.rename(old)
        side.rename(directory.pgdata)
        directory.initialized()
        directory.clear_dirty()
    finally:
        shutil.rmtree(side, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _make_room(directory: Directory) -> None:
    """A dirty directory is no copy of anything: it goes first when two do not fit."""
    if not directory.pgdata.exists() or directory.dirty is None:
        return
    size = sum(f.stat().st_size for f in directory.pgdata.rglob("*") if f.is_file())
    if directory.free_bytes() < size + ROOM:
        directory.empty_out()


def rewind(
    source_host: str,
    password: str,
    directory: Directory,
    server: Server,
    conf: ServerConf,
    run_dir: Path,
    tls: TlsFiles | None,
    cancelled: Callable[[], bool],
    timeout: float,
) -> None:
    """pg_rewind from the primary, after its post-promotion checkpoint. Raises CopyFailed."""
    deadline = time.monotonic() + timeout
    try:
        if not directory.control().cleanly_stopped:
            _recover(directory, server, conf, deadline)
    except DirectoryError as e:
        raise CopyFailed(f"recovery before the rewind: {e}") from e
    c.write_pgpass(run_dir, password)
    info = c.conninfo(source_host, PORT, "pgha-rewind", run_dir, tls, dbname="postgres")
    directory.mark_dirty(f"a rewind from {source_host} was begun")
    _run(
        [
            str(directory.bin / "pg_rewind"), f"--target-pgdata={directory.pgdata}",
            f"--source-server={info}", "--no-ensure-shutdown",
        ],
        f"rewind from {source_host}", cancelled, deadline - time.monotonic(),
    )
    directory.new_id()
    for stray in ("postmaster.pid", "promote"):
        (directory.pgdata / stray).unlink(missing_ok=True)
    directory.clear_dirty()


def _recover(
    directory: Directory, server: Server, conf: ServerConf, deadline: float
) -> None:
    """Replay the own WAL to its end, detached, as a standby; then stop cleanly.

    pg_rewind's own recovery would start a writable server without a lease.
    """
    server.start(conf)
    try:
        while True:
            control = directory.control()
            if control.state == "in archive recovery" and int(control.min_recovery_end) > 0:
                break
            if not server.running():
                raise DirectoryError("PostgreSQL did not survive its recovery: see its log")
            if time.monotonic() > deadline:
                raise DirectoryError("recovery did not reach the end of WAL in time")
            time.sleep(POLL)
    finally:
        if not server.stop("fast", 30.0):
            server.kill(5.0)
    if not directory.control().cleanly_stopped:
        raise DirectoryError("PostgreSQL did not stop cleanly after its recovery")


def _run(
    command: list[str], what: str, cancelled: Callable[[], bool], timeout: float
) -> None:
    deadline = time.monotonic() + timeout
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while process.poll() is None:
            if cancelled():
                raise CopyFailed(f"{what} was given up: the primary changed")
            if time.monotonic() > deadline:
                raise CopyFailed(f"{what} took longer than {timeout:.0f} s")
            time.sleep(POLL)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
        _, said = process.communicate()
    if process.returncode != 0:
        text = said.decode(errors="replace").strip().splitlines()
        raise CopyFailed(f"{what} failed: {text[-1] if text else process.returncode}")
