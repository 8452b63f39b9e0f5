"""SQL over the local unix socket. Owns the statements; each call is a new, bounded connection.

A new connection each time is on purpose: it proves that the server accepts one, and what it shows
is what a new session gets (law, point 3; amendment 3).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from pgha.lsn import LSN
from pgha.postgres.conf import REPLICATION_USER

CONNECT_WITHIN = 2  # seconds; libpq takes nothing shorter
QUICK = 3.0  # seconds for a statement that only looks
REWIND_FUNCTIONS = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
_IO_ERROR, _DISK_FULL = "58030", "53100"


class SqlError(Exception):
    """A statement failed or did not end in time; one sentence."""


class Alive(enum.Enum):
    ALIVE = "alive"
    BUSY_OR_REFUSING = "busy or refusing"  # it answers: too many clients, starting, disk full
    SILENT = "silent"
    IO_ERROR = "i/o error"


@dataclass(frozen=True)
class Sender:
    name: str
    pid: int
    state: str
    sync_state: str
    flush: LSN | None
    reply_age: float | None


@dataclass(frozen=True)
class SlotState:
    active: bool
    lost: bool


class Sql:
    def __init__(
        self, run_dir: Path, username: str, database: str = "postgres", port: int = 5432
    ) -> None:
        self._where: dict[str, Any] = {
            "host": str(run_dir), "port": port, "user": username, "dbname": database,
        }

    @contextmanager
    def _connect(
        self, timeout: float = QUICK, dbname: str | None = None
    ) -> Iterator[psycopg.Connection[Any]]:
        where = {**self._where, "dbname": dbname or self._where["dbname"]}
        options = (
            f"-c statement_timeout={int(timeout * 1000)} -c lock_timeout={int(timeout * 1000)} "
            "-c synchronous_commit=local -c default_transaction_read_only=off"
        )
        try:
            with psycopg.connect(
                **where, autocommit=True, connect_timeout=CONNECT_WITHIN, options=options,
                application_name="pgha",
            ) as connection:
                yield connection
        except psycopg.Error as e:
            raise SqlError(f"PostgreSQL here: {str(e).strip().splitlines()[0]}") from e

    def _one(self, statement: str, timeout: float = QUICK) -> Any:
        with self._connect(timeout) as connection:
            row = connection.execute(statement).fetchone()
            return row[0] if row else None

    # -- looking --------------------------------------------------------------------------------

    def alive(self, timeout: float) -> Alive:
        """A new connection, and a WAL record flushed by a commit (amendment 15)."""
        try:
            with self._connect(timeout) as connection:
                connection.execute("SELECT pg_logical_emit_message(true, 'pgha', '')")
        except SqlError as e:
            cause = e.__cause__
            state = getattr(cause, "sqlstate", None)
            if state == _IO_ERROR:
                return Alive.IO_ERROR
            if state is not None or "FATAL" in str(cause):
                return Alive.BUSY_OR_REFUSING
            return Alive.SILENT
        return Alive.ALIVE

    def replication(self) -> list[Sender]:
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT application_name, pid, state, sync_state, flush_lsn::text, "
                "extract(epoch FROM clock_timestamp() - reply_time)::float8 "
                "FROM pg_stat_replication"
            ).fetchall()
        return [
            Sender(r[0], r[1], r[2] or "", r[3] or "", LSN.parse(r[4]) if r[4] else None, r[5])
            for r in rows
        ]

    def flush_lsn(self) -> LSN:
        return LSN.parse(str(self._one("SELECT pg_current_wal_flush_lsn()::text")))

    def timeline(self, timeout: float) -> int | None:
        """The timeline that is being written; pg_control tells it only after a checkpoint."""
        try:
            name = self._one("SELECT pg_walfile_name(pg_current_wal_insert_lsn())", timeout)
        except SqlError:
            return None
        return int(str(name)[:8], 16)

    def sync_names(self) -> str:
        """synchronous_standby_names as a new connection sees it."""
        return str(self._one("SHOW synchronous_standby_names"))

    def slots(self) -> dict[str, SlotState]:
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT slot_name, active, coalesce(wal_status = 'lost', false) "
                "FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary"
            ).fetchall()
        return {r[0]: SlotState(r[1], r[2]) for r in rows}

    # -- changing -------------------------------------------------------------------------------

    def checkpoint(self, timeout: float) -> None:
        with self._connect(timeout) as connection:
            connection.execute("CHECKPOINT")

    def create_slot(self, name: str) -> None:
        with self._connect() as connection:
            connection.execute(
                "SELECT pg_create_physical_replication_slot(%s, true) WHERE NOT EXISTS "
                "(SELECT FROM pg_replication_slots WHERE slot_name = %s)",
                (name, name),
            )

    def drop_slot(self, name: str) -> None:
        """A slot that somebody uses stays: its walsender would have to be ended first."""
        with self._connect() as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE slot_name = %s AND NOT active",
                (name,),
            )

    def advance_slot(self, name: str, to: LSN) -> None:
        with self._connect() as connection:
            connection.execute("SELECT pg_replication_slot_advance(%s, %s)", (name, str(to)))

    def terminate(self, pid: int) -> None:
        with self._connect() as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))

    def setup_roles(
        self, username: str, password: str, replication_password: str, database: str | None
    ) -> None:
        """The user's role and database, and the role for replication and pg_rewind. Repeatable.

        Of a role that exists only the password is set; without `database` none is made.

        Passwords are sent as SCRAM verifiers, so none can appear in a log.
        """
        with self._connect(timeout=30.0) as connection:
            self._role(connection, username, password, "SUPERUSER LOGIN")
            self._role(
                connection, REPLICATION_USER, replication_password, "NOSUPERUSER LOGIN REPLICATION"
            )
            for function in REWIND_FUNCTIONS:
                connection.execute(
                    sql.SQL("GRANT EXECUTE ON FUNCTION pg_catalog.{} TO {}").format(
                        sql.SQL(function), sql.Identifier(REPLICATION_USER)
                    )
                )
            if database is not None and not connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (database,)
            ).fetchone():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(
                        sql.Identifier(database), sql.Identifier(username)
                    )
                )

    @staticmethod
    def _role(
        connection: psycopg.Connection[Any], name: str, password: str, options: str
    ) -> None:
        exists = connection.execute(
            "SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)
        ).fetchone()
        verifier = connection.pgconn.encrypt_password(
            password.encode(), name.encode(), b"scram-sha-256"
        ).decode()
        connection.execute(
            sql.SQL("{} ROLE {} WITH {} PASSWORD {}").format(
                sql.SQL("ALTER" if exists else "CREATE"), sql.Identifier(name),
                sql.SQL("" if exists else options), sql.Literal(verifier),
            )
        )
