"""Where recovery begins: the control file by pg_controldata, and backup_label. Reads only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgha.lsn import LSN, Position
from pgha.postgres.programs import ProgramLate, run

CONTROL_WITHIN = 10.0  # seconds
TORN = 3  # readings of a control file that is being written

_LIMITS = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
_LABEL = re.compile(
    r"START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{8})[0-9A-F]{16}\)"
)


class DirectoryError(Exception):
    """One sentence: the directory, what is wrong, the remedy."""


class WalMissing(DirectoryError):
    """The directory does not have the WAL that its recovery begins with, from `needed` on, or it
    cannot be read."""

    def __init__(self, why: str, needed: Position) -> None:
        super().__init__(why)
        self.needed = needed


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
    def newest_timeline(self) -> int:
        """The latest that this directory is known to be on: of its checkpoint, or of what a standby
        has flushed since."""
        return max(self.timeline, self.min_recovery_timeline)

    @property
    def cleanly_stopped(self) -> bool:
        return self.state in ("shut down", "shut down in recovery")


def read_control(bin: Path, pgdata: Path) -> Control:
    """Raises DirectoryError if it cannot be read, or is not whole."""
    for attempt in range(TORN):
        try:
            said = run([bin / "pg_controldata", "-D", pgdata], CONTROL_WITHIN)
        except (ProgramLate, OSError) as e:
            raise DirectoryError(f"the control file of {pgdata} cannot be read: {e}") from e
        if said.status == 0 and "WARNING:" in said.out and attempt + 1 < TORN:
            continue
        break
    if said.status != 0:
        raise DirectoryError(f"the control file of {pgdata} cannot be read: {said.complaint}")
    return parse_control(said.out)


def parse_control(text: str) -> Control:
    """The output of pg_controldata under LC_ALL=C; raises DirectoryError for anything else."""
    if "WARNING:" in text:  # a wrong checksum, and then values of any kind
        raise DirectoryError("the control file is corrupt: the directory needs a clone")
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found[key.strip()] = value.strip()
    try:
        control = Control(
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
    size = control.segment_size
    if not 1 << 20 <= size <= 1 << 30 or size & (size - 1):
        raise DirectoryError(f"pg_controldata said WAL segments have {size} bytes")
    return control


@dataclass(frozen=True)
class Origin:
    """The record that recovery begins to read at: everything up to it is on disk. `needed` is
    where replay begins, at or before it."""

    timeline: int
    needed: LSN
    start: LSN


def origin(pgdata: Path, control: Control) -> Origin:
    """As PostgreSQL finds it: in a copy, backup_label comes before the control file."""
    try:
        text = (pgdata / "backup_label").read_text(errors="replace")
    except FileNotFoundError:
        # A checkpoint gets into the control file after its record was flushed.
        return Origin(control.timeline, control.redo, control.checkpoint)
    found = _LABEL.search(text)
    if found is None:
        raise DirectoryError(f"{pgdata}/backup_label is damaged: the directory needs a clone")
    redo = LSN.parse(found[1])
    return Origin(int(found[2], 16), redo, redo)
