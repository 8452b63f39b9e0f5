"""SQL over the local unix socket. Owns the statements; each call is a new, bounded connection.

A new connection each time is on purpose: it proves that the server accepts one, and what it shows
is what a new session gets (law, point 3; amendment 3).
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pgha.lsn import LSN
from pgha.postgres.conf import REPLICATION_USER
from pgha.postgres.wire import Row, Wire, WireError, connected

QUICK = 3.0  # seconds for a statement that only looks
ROLES_WITHIN = 30.0  # seconds for roles and a database
INSTEAD = "template1"  # for a database that is gone; CREATE DATABASE waits while it is in use
INSTEAD_FOR = 60.0  # seconds until the database that is meant is tried first again
REWIND_FUNCTIONS = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
# A transactional message makes a commit, and that flushes WAL; no table is touched.
_PROBE = "SELECT pg_logical_emit_message(true, 'pgha', '')"
# Passwords are sent as verifiers; these keep even those, and what failed, out of the server's log.
_UNLOGGED = (
    "-c log_statement=none -c log_min_duration_statement=-1 -c log_duration=off "
    "-c log_min_error_statement=panic"
)


class SqlError(Exception):
    """A statement failed or did not end in time; one sentence."""


class Alive(enum.Enum):
    ALIVE = "alive"
    BUSY_OR_REFUSING = "busy or refusing"  # it answers: too many clients, starting, disk full
    SILENT = "silent"
    IO_ERROR = "i/o error"


@dataclass(frozen=True)
class Sender:
    """A walsender. `replies` counts the replies it was seen to process, at least: each brings a
    new reply_time, which is the standby's clock and so is compared with nothing but itself.
    `reply_age` is the time since the last of them was first seen here, in seconds."""

    name: str
    pid: int
    state: str
    sync_state: str
    flush: LSN | None
    reply_age: float | None
    replies: int = 0


@dataclass(frozen=True)
class SlotState:
    active: bool
    lost: bool


@dataclass(frozen=True)
class Look:
    """What one new connection saw of a primary, in this order; only how it failed if it did."""

    alive: Alive
    sync_names: str = ""
    flush: LSN | None = None
    senders: tuple[Sender, ...] = ()
    slots: dict[str, SlotState] = field(default_factory=dict)
    connected: bool = False  # it got in, and it is the probe's own statement that failed


class Sql:
    """Every call ends within its time, and raises SqlError if it did not succeed."""

    def __init__(
        self, run_dir: Path, username: str, database: str = "postgres", port: int = 5432
    ) -> None:
        self._where = {
            "host": str(run_dir), "port": str(port), "user": username, "dbname": database,
            "application_name": "pgha", "client_encoding": "UTF8",
        }
        self._instead_until = float("-inf")
        self._replies: dict[int, tuple[str, float, int]] = {}  # pid: reply_time, seen at, count

    @contextmanager
    def _connect(self, timeout: float = QUICK, options: str = "") -> Iterator[Wire]:
        # The server gives up when nobody waits any more, if it can.
        limits = f"-c statement_timeout={int(timeout * 1000)} -c lock_timeout=0"
        session = f"{limits} -c synchronous_commit=local -c default_transaction_read_only=off"
        try:
            with self._opened({**self._where, "options": f"{session} {options}"}, timeout) as wire:
                yield wire
        except WireError as e:
            raise SqlError(f"PostgreSQL here: {e}") from e

    @contextmanager
    def _opened(self, where: dict[str, str], timeout: float) -> Iterator[Wire]:
        """Users may drop or rename any database, or close it to connections. libpq tells no
        SQLSTATE of a refused connection, and the words are in any language: so whatever the
        refusal, the other database is tried too. An I/O error is not passed over (amendment 15).
        """
        deadline = time.monotonic() + timeout
        meant = where["dbname"]
        names = [meant, INSTEAD]
        if time.monotonic() < self._instead_until:
            names.reverse()
        with ExitStack() as stack:
            refused: WireError | None = None
            for name in names:
                left = deadline - time.monotonic()
                try:
                    wire = stack.enter_context(connected({**where, "dbname": name}, left))
                except WireError as e:
                    refused = refused or e
                    if e.kind != "refused" or e.io_error:
                        raise
                    continue
                if refused is not None:
                    instead = name == INSTEAD
                    self._instead_until = time.monotonic() + INSTEAD_FOR if instead else 0.0
                yield wire
                return
            assert refused is not None
            raise refused

    def _one(self, statement: str, timeout: float = QUICK) -> str:
        with self._connect(timeout) as wire:
            return _value(wire.ask(statement))

    # -- looking --------------------------------------------------------------------------------

    def alive(self, timeout: float) -> Alive:
        """A new connection, and a WAL record flushed by a commit (amendment 15)."""
        try:
            self._one(_PROBE, timeout)
        except SqlError as e:
            return _judge(e.__cause__)
        return Alive.ALIVE

    def look(self, timeout: float) -> Look:
        """`alive`, and what `sync_names`, `flush_lsn`, `replication` and `slots` would say, by the
        same connection: one process of the server's instead of five."""
        alive, there = Alive.SILENT, False
        try:
            with self._connect(timeout) as wire:
                there = True
                wire.ask(_PROBE)
                alive = Alive.ALIVE
                names = _value(wire.ask(_NAMES))
                flush = LSN.parse(_value(wire.ask(_FLUSH)))
                senders = self._senders(wire.ask(_SENDERS))
                return Look(alive, names, flush, tuple(senders), _slots(wire.ask(_SLOTS)))
        except SqlError as e:
            failed = alive if alive is Alive.ALIVE else _judge(e.__cause__)
            return Look(failed, connected=there)

    def replication(self) -> list[Sender]:
        with self._connect() as wire:
            return self._senders(wire.ask(_SENDERS))

    def _senders(self, rows: list[Row]) -> list[Sender]:
        now, known, found = time.monotonic(), {}, []
        for name, pid_text, state, sync_state, flush, replied in rows:
            pid, age, count = int(pid_text or 0), None, 0
            if replied is not None:
                known[pid] = self._replies.get(pid, (replied, now, 0))
                if known[pid][0] != replied:
                    known[pid] = (replied, now, known[pid][2] + 1)
                age, count = now - known[pid][1], known[pid][2]
            at = LSN.parse(flush) if flush else None
            found.append(Sender(name or "", pid, state or "", sync_state or "", at, age, count))
        self._replies = known
        return found

    def flush_lsn(self) -> LSN:
        return LSN.parse(self._one(_FLUSH))

    def timeline(self, timeout: float) -> int | None:
        """The timeline that is being written; pg_control tells it only after a checkpoint."""
        try:
            name = self._one("SELECT pg_walfile_name(pg_current_wal_insert_lsn())", timeout)
        except SqlError:
            return None
        return int(name[:8], 16)

    def sync_names(self) -> str:
        """synchronous_standby_names as a new connection sees it."""
        return self._one(_NAMES)

    def slots(self) -> dict[str, SlotState]:
        with self._connect() as wire:
            return _slots(wire.ask(_SLOTS))

    # -- changing -------------------------------------------------------------------------------

    def checkpoint(self, timeout: float) -> None:
        with self._connect(timeout) as wire:
            wire.ask("CHECKPOINT")

    def checkpoints(self, names: str, timeout: float) -> bool:
        """Two checkpoints, if this session shows `names`; see `pgha.waiting`."""
        with self._connect(timeout) as wire:
            if _value(wire.ask(_NAMES)) != names:
                return False
            for _ in range(2):
                wire.ask("CHECKPOINT")
        return True

    def create_slot(self, name: str) -> None:
        with self._connect() as wire:
            wire.ask(
                "SELECT pg_create_physical_replication_slot($1::name, true) WHERE NOT EXISTS "
                "(SELECT FROM pg_replication_slots WHERE slot_name = $1::name)",
                name,
            )

    def drop_slot(self, name: str) -> None:
        """A slot that somebody uses stays: its walsender would have to be ended first."""
        with self._connect() as wire:
            wire.ask(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE slot_name = $1::name AND NOT active",
                name,
            )

    def advance_slot(self, name: str, to: LSN) -> None:
        with self._connect() as wire:
            wire.ask("SELECT pg_replication_slot_advance($1::name, $2::pg_lsn)", name, str(to))

    def terminate(self, pid: int) -> None:
        with self._connect() as wire:
            wire.ask("SELECT pg_terminate_backend($1::int)", str(pid))

    def setup_roles(
        self, username: str, password: str, replication_password: str, database: str | None
    ) -> None:
        """The user's role and database, and the role for replication and pg_rewind. Repeatable.

        Of a role that exists only the password is set; without `database` none is made.
        """
        with self._connect(ROLES_WITHIN, _UNLOGGED) as wire:
            _role(wire, username, password, "SUPERUSER LOGIN")
            _role(wire, REPLICATION_USER, replication_password, "NOSUPERUSER LOGIN REPLICATION")
            for function in REWIND_FUNCTIONS:
                wire.ask(
                    f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} "
                    f"TO {wire.identifier(REPLICATION_USER)}"
                )
            if database is not None and not wire.ask(
                "SELECT 1 FROM pg_database WHERE datname = $1::name", database
            ):
                wire.ask(
                    f"CREATE DATABASE {wire.identifier(database)} "
                    f"OWNER {wire.identifier(username)}"
                )


_NAMES = "SHOW synchronous_standby_names"
_FLUSH = "SELECT pg_current_wal_flush_lsn()::text"
_SENDERS = (
    "SELECT application_name, pid, state, sync_state, flush_lsn::text, "
    "extract(epoch FROM reply_time)::text FROM pg_stat_replication"
)
_SLOTS = (
    "SELECT slot_name, active, coalesce(wal_status = 'lost', false) "
    "FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary"
)


def _value(rows: list[Row]) -> str:
    return rows[0][0] or "" if rows else ""


def _slots(rows: list[Row]) -> dict[str, SlotState]:
    return {r[0] or "": SlotState(r[1] == "t", r[2] == "t") for r in rows}


def _judge(failure: BaseException | None) -> Alive:
    """Any word of the server's is a sign of life; an I/O error is told apart (amendment 15)."""
    if not isinstance(failure, WireError) or failure.kind in ("silent", "gone"):
        return Alive.SILENT
    return Alive.IO_ERROR if failure.io_error else Alive.BUSY_OR_REFUSING


def _role(wire: Wire, name: str, password: str, options: str) -> None:
    """Passwords are sent as SCRAM verifiers: none leaves this process."""
    exists = wire.ask("SELECT 1 FROM pg_roles WHERE rolname = $1::name", name)
    verifier = wire.literal(wire.scram_verifier(password, name))
    verb, rest = ("ALTER", "") if exists else ("CREATE", options)
    wire.ask(f"{verb} ROLE {wire.identifier(name)} WITH {rest} PASSWORD {verifier}")
