"""The data directory on disk: its state, its marks, its control data. Starts no server.

Notes (marks, the last record seen, votes, promises) live beside PGDATA in `<parent>/pgha/`, so
that no copy overwrites them. The directory id is inside PGDATA, since it names that very copy.
"""

from __future__ import annotations

import enum
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pgha.lsn import LSN, History, Position
from pgha.postgres.wal import end_of_timeline

ID_FILE = "pgha.id"
CONTROL_WITHIN = 10.0  # seconds
STUB = "pgha stub"
_SEGMENT = re.compile(r"([0-9A-F]{8})[0-9A-F]{16}")
_NOTE = re.compile(r"[a-z][a-z-]{0,30}")
_AUTO = re.compile(r"\s*([A-Za-z_][\w.$]*)\s*(?:=\s*|\s)(.*?)\s*")
_LIMITS = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


class DirectoryState(enum.Enum):
    EMPTY = "empty"
    INITIALIZING = "initializing"
    READY = "ready"
    DIRTY = "dirty"
    OTHER_MAJOR = "other major"
    BROKEN = "broken"


class DirectoryError(Exception):
    """One sentence: the directory, what is wrong, the remedy."""


@dataclass(frozen=True)
class Control:
    """pg_controldata, as far as the agent needs it."""

    system_id: int
    timeline: int
    checkpoint: LSN
    redo: LSN
    min_recovery_end: LSN
    min_recovery_timeline: int
    state: str
    segment_size: int
    data_checksums: bool
    wal_log_hints: bool
    limits: Mapping[str, int]  # of the server that wrote the WAL: conf.LIMITS

    @property
    def cleanly_stopped(self) -> bool:
        return self.state in ("shut down", "shut down in recovery")


class Directory:
    """`bin` holds PostgreSQL's programs. Every read is of the disk as it is now."""

    def __init__(self, pgdata: Path, bin: Path) -> None:
        self.pgdata, self.bin = pgdata, bin
        self.notes = pgdata.parent / "pgha"

    # -- state ----------------------------------------------------------------------------------

    def state(self) -> DirectoryState:
        return self._judge()[0]

    def explain(self) -> str:
        """One sentence on why the directory is in its state."""
        return self._judge()[1]

    def _judge(self) -> tuple[DirectoryState, str]:
        try:
            if (note := self.read_note("dirty")) is not None:
                return DirectoryState.DIRTY, f"marked dirty: {note.get('why', 'not said')}"
            if not self.pgdata.exists() or not any(self.pgdata.iterdir()):
                return DirectoryState.EMPTY, f"{self.pgdata} is empty"
            if self.read_note("initializing") is not None:
                return DirectoryState.INITIALIZING, "initdb was not completed"
            version = self.pgdata / "PG_VERSION"
            if not version.exists() or not (self.pgdata / "global/pg_control").exists():
                return DirectoryState.BROKEN, (
                    f"{self.pgdata} has files but is no data directory: move them away, or "
                    "restore the claim that belongs here"
                )
            major = version.read_text().strip()
            if major != str(self.major):
                return DirectoryState.OTHER_MAJOR, (
                    f"{self.pgdata} is of PostgreSQL {major} and the image has {self.major}: set "
                    f"`version` back to {major}, or upgrade the data with pg_upgrade first"
                )
            self.control()
        except (OSError, DirectoryError, subprocess.SubprocessError, ValueError) as e:
            return DirectoryState.BROKEN, f"{self.pgdata} cannot be read: {e}"
        return DirectoryState.READY, ""

    @cached_property
    def major(self) -> int:
        out = subprocess.run(
            [self.bin / "postgres", "--version"], capture_output=True, text=True, check=True,
            timeout=CONTROL_WITHIN,
        ).stdout
        return int(re.findall(r"(\d+)[.\w]*", out)[0])

    def control(self) -> Control:
        """Raises DirectoryError if pg_control cannot be read."""
        done = subprocess.run(
            [self.bin / "pg_controldata", "-D", self.pgdata], capture_output=True, text=True,
            timeout=CONTROL_WITHIN, env={**os.environ, "LC_ALL": "C"},
        )
        if done.returncode != 0:
            raise DirectoryError(f"pg_controldata {self.pgdata}: {done.stderr.strip()[:200]}")
        return parse_control(done.stdout)

    def history(self, timeline: int) -> History:
        """The ancestors of a timeline, from its history file; empty for timeline 1."""
        if timeline <= 1:
            return History()
        path = self.pgdata / "pg_wal" / f"{timeline:08X}.history"
        try:
            return History.parse(path.read_text())
        except FileNotFoundError:
            return History()

    def end_of_wal(self, timeout: float) -> Position:
        """The exact end of the valid WAL on disk; only while no receiver writes.

        Follows the newest timeline that has segments here and descends from the control file's.
        Raises DirectoryError when no record can be read.
        """
        control = self.control()
        wal = self.pgdata / "pg_wal"
        present = {
            int(found[1], 16) for p in os.listdir(wal) if (found := _SEGMENT.fullmatch(p))
        }
        for timeline in sorted((t for t in present if t > control.timeline), reverse=True):
            history = self.history(timeline)
            began = [s.at for s in history if s.timeline == control.timeline]
            if not began or began[0] < control.redo:
                continue
            start = max(control.redo, history[-1].at)
            end = end_of_timeline(
                self.bin, wal, timeline, start, control.segment_size, timeout
            )
            if end is not None:
                return Position(timeline, end)
            if self._is_stub(timeline):
                continue
        end = end_of_timeline(
            self.bin, wal, control.timeline, control.redo, control.segment_size, timeout
        )
        if end is None:
            raise DirectoryError(
                f"no WAL record from {control.redo} on can be read in {wal}: the directory needs "
                "a clone"
            )
        return Position(control.timeline, end)

    # -- marks ----------------------------------------------------------------------------------

    @property
    def directory_id(self) -> str | None:
        try:
            return (self.pgdata / ID_FILE).read_text().strip() or None
        except OSError:
            return None

    def new_id(self, pgdata: Path | None = None) -> str:
        """A new random id: this is another copy now (amendment 5)."""
        made = secrets.token_hex(8)
        write_durably((pgdata or self.pgdata) / ID_FILE, made.encode() + b"\n")
        return made

    @property
    def dirty(self) -> str | None:
        note = self.read_note("dirty")
        return None if note is None else str(note.get("why", "not said"))

    def mark_dirty(self, why: str) -> None:
        self.write_note("dirty", {"why": why})

    def clear_dirty(self) -> None:
        self.drop_note("dirty")

    def initialized(self) -> None:
        self.drop_note("initializing")

    def read_note(self, name: str) -> dict[str, Any] | None:
        """A note, or None where there is none. An unreadable note is an empty one."""
        try:
            loaded = json.loads((self.notes / f"{_checked(name)}.json").read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def write_note(self, name: str, note: dict[str, Any]) -> None:
        """Atomic, and flushed to the disk before it returns."""
        self.notes.mkdir(mode=0o700, exist_ok=True)
        write_durably(self.notes / f"{_checked(name)}.json", json.dumps(note).encode())

    def drop_note(self, name: str) -> None:
        (self.notes / f"{_checked(name)}.json").unlink(missing_ok=True)
        if self.notes.exists():
            _sync_folder(self.notes)

    # -- what is written before a start ---------------------------------------------------------

    def write_standby_signal(self) -> None:
        """Before every start but the first private one (law, point 4); flushed."""
        write_durably(self.pgdata / "standby.signal", b"")
        for leftover in ("promote", "recovery.signal", "backup_label.old"):
            (self.pgdata / leftover).unlink(missing_ok=True)

    def scrub_auto_conf(self, owned: frozenset[str]) -> None:
        """Drop from postgresql.auto.conf what ALTER SYSTEM may not decide here."""
        path = self.pgdata / "postgresql.auto.conf"
        try:
            lines = path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return
        kept = [
            x for x in lines
            if not ((m := _AUTO.fullmatch(x.rstrip("\n"))) and m[1].lower() in owned)
        ]
        if kept != lines:
            write_durably(path, "".join(kept).encode())

    def auto_conf(self) -> dict[str, str]:
        """What ALTER SYSTEM has set, as in postgresql.auto.conf."""
        try:
            lines = (self.pgdata / "postgresql.auto.conf").read_text().splitlines()
        except FileNotFoundError:
            return {}
        found = [m for x in lines if (m := _AUTO.fullmatch(x))]
        return {
            m[1].lower(): m[2][1:-1].replace("''", "'") if m[2].startswith("'") else m[2]
            for m in found
        }

    def stub_history(self, number: int, history: History, timeline: int, end: LSN) -> None:
        """A history file that takes `number`, so that PostgreSQL promotes to a later one.

        Amendment 8: a used number is never reused. PostgreSQL takes the first number without a
        history file after its own, so the caller makes one for each number in between.
        """
        text = history.text() + f"{timeline}\t{end}\t{STUB}\n"
        path = self.pgdata / "pg_wal" / f"{number:08X}.history"
        if not path.exists():
            write_durably(path, text.encode())

    def drop_stubs(self) -> None:
        """Stubs are for the moment of a promotion only: recovery would follow them."""
        for path in (self.pgdata / "pg_wal").glob("*.history"):
            if STUB in path.read_text():
                path.unlink()

    def _is_stub(self, timeline: int) -> bool:
        path = self.pgdata / "pg_wal" / f"{timeline:08X}.history"
        return path.exists() and STUB in path.read_text()

    def initdb(self, username: str, timeout: float) -> None:
        """Stage one of two: the marker stays until `initialized()`. Raises DirectoryError."""
        self.write_note("initializing", {"by": username})
        self.empty_out()
        self.pgdata.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = subprocess.run(
            [
                self.bin / "initdb", "-D", self.pgdata, f"--username={username}",
                "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8", "--auth-host=reject",
                "--auth-local=trust",
            ],
            capture_output=True, text=True, timeout=timeout,
        )
        if done.returncode != 0:
            raise DirectoryError(f"initdb failed: {done.stderr.strip()[-300:]}")

    def empty_out(self) -> None:
        """Remove what is in PGDATA; the caller has made sure that it may."""
        if self.pgdata.exists():
            shutil.rmtree(self.pgdata)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.pgdata.parent).free


def parse_control(text: str) -> Control:
    """The output of pg_controldata under LC_ALL=C; raises DirectoryError for anything else."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found[key.strip()] = value.strip()
    try:
        return Control(
            system_id=int(found["Database system identifier"]),
            timeline=int(found["Latest checkpoint's TimeLineID"]),
            checkpoint=LSN.parse(found["Latest checkpoint location"]),
            redo=LSN.parse(found["Latest checkpoint's REDO location"]),
            min_recovery_end=LSN.parse(found["Minimum recovery ending location"]),
            min_recovery_timeline=int(found["Min recovery ending loc's timeline"]),
            state=found["Database cluster state"],
            segment_size=int(found["Bytes per WAL segment"]),
            data_checksums=found.get("Data page checksum version", "0") != "0",
            wal_log_hints=found.get("wal_log_hints setting") == "on",
            limits={name: int(found[key]) for key, name in _LIMITS.items()},
        )
    except (KeyError, ValueError) as e:
        raise DirectoryError(f"pg_controldata said something unexpected: {e!r}") from e


def write_durably(path: Path, content: bytes) -> None:
    """Write a sibling, flush it, rename it over `path`, flush the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _checked(name: str) -> str:
    if not _NOTE.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a note: lower case letters and dashes")
    return name
