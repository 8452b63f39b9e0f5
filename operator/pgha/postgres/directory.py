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
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from pgha.lsn import LSN, History, Position
from pgha.postgres import wal
from pgha.postgres.control import (
    Control,
    DirectoryError,
    Origin,
    WalMissing,
    origin,
    read_control,
)
from pgha.postgres.programs import ProgramLate, run
from pgha.postgres.reserve import FULL, Reserve

__all__ = ["Control", "Directory", "DirectoryError", "DirectoryState"]

ID_FILE = "pgha.id"
NOTES = "pgha"  # the folder beside PGDATA
VERSION_WITHIN = 10.0  # seconds
STUB = "pgha stub"
_NOTE = re.compile(r"[a-z][a-z-]{0,30}")
_AUTO = re.compile(r"\s*([A-Za-z_][\w.$]*)\s*(?:=\s*|\s)(.*?)\s*")


class DirectoryState(enum.Enum):
    EMPTY = "empty"
    INITIALIZING = "initializing"
    READY = "ready"
    DIRTY = "dirty"
    OTHER_MAJOR = "other major"
    BROKEN = "broken"


class Directory:
    """`bin` holds PostgreSQL's programs. Every read is of the disk as it is now. `kept`: open files
    that every program which writes here inherits, so that locks on them tell of its end."""

    def __init__(self, pgdata: Path, bin: Path, kept: tuple[int, ...] = ()) -> None:
        self.pgdata, self.bin, self.kept = pgdata, bin, kept
        self.notes = pgdata.parent / NOTES
        self._reserve = Reserve(self.notes)

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
        except (OSError, DirectoryError, ProgramLate, ValueError, IndexError) as e:
            return DirectoryState.BROKEN, f"{self.pgdata} cannot be read: {e}"
        return DirectoryState.READY, ""

    @cached_property
    def major(self) -> int:
        said = run([self.bin / "postgres", "--version"], VERSION_WITHIN)
        return int(re.findall(r"(\d+)[.\w]*", said.out)[0])

    def control(self) -> Control:
        """Raises DirectoryError if pg_control cannot be read."""
        return read_control(self.bin, self.pgdata)

    def history(self, timeline: int) -> History:
        """The ancestors of a timeline, from its history file; empty for timeline 1."""
        if timeline <= 1:
            return History()
        try:
            return History.parse(self._history_file(timeline).read_text())
        except FileNotFoundError:
            return History()

    def end_of_wal(self, timeout: float, flushed: LSN | None = None) -> Position:
        """The exact end of the valid WAL on disk: what recovery would reach. Only while no
        receiver writes. Raises DirectoryError or WalUnreadable when it cannot be known.

        `flushed` is a position that this directory is known to have flushed in its present
        history: the reading begins shortly before it.
        """
        deadline = time.monotonic() + timeout
        control = self.control()
        begin = origin(self.pgdata, control)
        shape = wal.Shape(control.segment_size, control.system_id)
        folder, first = self.pgdata / "pg_wal", shape.number(begin.needed)
        timeline = self._recovery_timeline(control, begin)
        history = self.history(timeline)
        found = wal.segments(folder, history, timeline, first, shape)
        needed = Position(history.timeline_at(begin.needed, timeline), begin.needed)
        if shape.number(begin.start) >= first + len(found):
            raise WalMissing(
                f"{folder} lacks WAL from {begin.needed} on: the primary has to send it, or the "
                "directory needs a clone",
                needed,
            )
        starts = [begin.start]
        if flushed is not None:
            sure = LSN(max(0, shape.number(flushed) - 1) * control.segment_size)
            starts[:0] = [sure] if sure > begin.start else []
        for start in starts:
            left = deadline - time.monotonic()
            last = wal.last_record(self.bin, found, first, start, shape, left)
            if last is not None:
                # A segment begins with a copy of what came before the switch to its timeline.
                of_file = found[shape.number(last.start) - first].timeline
                return Position(min(of_file, history.timeline_at(last.start, timeline)), last.end)
        raise WalMissing(
            f"no WAL record from {begin.start} on can be read in {folder}: the primary has to send "
            "it, or the directory needs a clone",
            needed,
        )

    def _recovery_timeline(self, control: Control, begin: Origin) -> int:
        """As recovery_target_timeline = latest finds it (timeline.c, findNewestTimeLine): the
        last number in a row that has a history file, if that grew out of this directory."""
        own = control.newest_timeline
        newest = own
        while self._history_file(newest + 1).exists():
            newest += 1
        for timeline in range(newest, own, -1):
            if self._is_stub(timeline):
                continue
            history = self.history(timeline)
            if history.timeline_at(begin.start, timeline) != begin.timeline:
                continue
            reached = control.min_recovery_end
            if reached and (
                history.timeline_at(LSN(reached - 1), timeline) != control.min_recovery_timeline
            ):
                continue
            return timeline
        return own

    def overtaken(self, end: Position) -> bool:
        """Does a history file here tell of a timeline that left this one past its `end`?"""
        return any(
            switch.timeline == end.timeline and switch.at > end.lsn
            for number in self._histories() if number > end.timeline and not self._is_stub(number)
            for switch in self.history(number)
        )

    def _histories(self) -> dict[int, Path]:
        """The history files, by the number of their timeline."""
        return {
            int(path.stem, 16): path for path in (self.pgdata / "pg_wal").glob("*.history")
            if re.fullmatch(r"[0-9A-F]{8}", path.stem)
        }

    def _history_file(self, timeline: int) -> Path:
        return self.pgdata / "pg_wal" / f"{timeline:08X}.history"

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
        """Atomic, and flushed to the disk before it returns; on a full disk from the reserve."""
        self.notes.mkdir(mode=0o700, exist_ok=True)
        path, content = self.notes / f"{_checked(name)}.json", json.dumps(note).encode()
        try:
            write_durably(path, content)
        except OSError as e:
            if e.errno not in FULL or not self._reserve.give():
                raise
            write_durably(path, content)
        else:
            self._reserve.keep()

    def drop_note(self, name: str) -> None:
        (self.notes / f"{_checked(name)}.json").unlink(missing_ok=True)
        if self.notes.exists():
            sync_folder(self.notes)

    # -- what is written before a start ---------------------------------------------------------

    def write_standby_signal(self) -> None:
        """Before every start but the first private one (law, point 4); flushed. One that is there
        is kept: a full disk is no reason not to start."""
        signal = self.pgdata / "standby.signal"
        if not signal.exists():
            write_durably(signal, b"")
        sync_folder(self.pgdata)
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
        path = self._history_file(number)
        if not path.exists():
            write_durably(path, text.encode())

    def drop_stubs(self) -> None:
        """Drop the stubs of a promotion that was not completed: recovery would follow them.

        One below a real history stays: standbys find the newest timeline by counting, and fetch
        each number's file from here.
        """
        numbers = self._histories()
        stubs = {n for n in numbers if self._is_stub(n)}
        newest = max(numbers.keys() - stubs, default=1)
        for number in stubs:
            if number > newest:
                numbers[number].unlink()

    def newest_history(self) -> int:
        """The highest number that a history file has here which is no stub; 1 where none has.

        PostgreSQL writes it in the middle of a promotion: the number is used from then on.
        """
        downwards = sorted(self._histories(), reverse=True)
        return next((number for number in downwards if not self._is_stub(number)), 1)

    def _is_stub(self, timeline: int) -> bool:
        path = self._history_file(timeline)
        return path.exists() and STUB in path.read_text()

    def initdb(self, username: str, timeout: float) -> None:
        """Stage one of two: the marker stays until `initialized()`. Raises DirectoryError; data
        that another stage one has not left behind is not touched, whoever asks."""
        if self.state() not in (DirectoryState.EMPTY, DirectoryState.INITIALIZING):
            raise DirectoryError(f"{self.pgdata} is not empty: it is not initialized anew")
        self.write_note("initializing", {"by": username})
        self.empty_out()
        self.pgdata.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            said = run(
                [
                    self.bin / "initdb", "-D", self.pgdata, f"--username={username}",
                    "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8",
                    "--auth-host=reject", "--auth-local=trust",
                ],
                timeout, self.kept,
            )  # fmt: skip
        except (ProgramLate, OSError) as e:
            raise DirectoryError(f"initdb in {self.pgdata}: {e}") from e
        if said.status != 0:
            raise DirectoryError(f"initdb failed: {said.complaint}")

    def empty_out(self) -> None:
        """Remove what is in PGDATA; the caller has made sure that it may."""
        if self.pgdata.exists():
            shutil.rmtree(self.pgdata)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.pgdata.parent).free


def write_durably(path: Path, content: bytes) -> None:
    """Write a sibling, flush it, rename it over `path`, flush the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were changed in a folder last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _checked(name: str) -> str:
    if not _NOTE.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a note: lower case letters and dashes")
    return name
