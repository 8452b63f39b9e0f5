"""What the jobs do to the data directory: initialize, clone, rewind. PostgreSQL is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pgha.postgres import copying
from pgha.postgres.directory import Directory
from pgha.postgres.server import Server, ServerConf
from pgha.postgres.sql import Sql
from pgha.settings import Identity, Settings

INITDB_WITHIN = 120.0  # seconds
STOP_WITHIN = 20.0  # seconds for the fast stop of the private server
KILL_WITHIN = 5.0  # seconds for what did not stop
COPY_WITHIN = 24 * 3600.0  # a clone's pace is the network's; facts cancel it
REWIND_WITHIN = 3600.0


class Copies:
    def __init__(
        self, settings: Settings, identity: Identity, directory: Directory, server: Server,
        sql: Sql, run_dir: Path, certificate: Path, auth: Path, members: Path,
    ) -> None:
        self._settings, self._identity = settings, identity
        self._directory, self._server, self._sql = directory, server, sql
        self._certificate, self._auth, self._members = certificate, auth, members
        self._run = run_dir

    def replication_password(self) -> str:
        return (self._members / "replicationPassword").read_text().strip()

    def conf(self) -> ServerConf:
        s = self._settings
        return ServerConf(
            name=self._identity.pod, username=s.username, parameters=s.parameters, hot=s.hot,
            major=s.major, certificate=self._certificate, require_tls=s.require_tls,
        )

    def initialize(self, source: str | None, cancelled: Callable[[], bool]) -> None:
        """initdb, the roles and the database; PostgreSQL is private meanwhile, and stopped after.

        The lease is held: the rules start this only then, and cancel it when it is lost.
        """
        d, s = self._directory, self._settings
        d.initdb(s.username, INITDB_WITHIN)
        if cancelled():
            raise copying.CopyFailed("initialization was given up: the lease was lost")
        self._server.start_private(self.conf())
        try:
            self._apply_roles(s.database)
        finally:
            stopped = self._server.stop("fast", STOP_WITHIN)
            if not stopped:
                self._server.kill(KILL_WITHIN)
        if not stopped:
            raise copying.CopyFailed(
                f"initialization: PostgreSQL did not stop in {STOP_WITHIN:.0f} s and was killed: "
                "it is initialized anew"
            )
        if cancelled():
            raise copying.CopyFailed("initialization was given up: the lease was lost")
        d.new_id()
        d.initialized()

    def apply_roles(self) -> None:
        """The roles and passwords of the Secrets, on a server that accepts writes. Repeatable.

        It runs after each promotion, so a password that was changed in the Secret takes effect.
        A database that somebody dropped stays dropped.
        """
        self._apply_roles(None)

    def _apply_roles(self, database: str | None) -> None:
        self._sql.setup_roles(
            (self._auth / "POSTGRES_USER").read_text().strip(),
            (self._auth / "POSTGRES_PASSWORD").read_text().strip(),
            self.replication_password(), database,
        )

    def clone(self, source: str | None, cancelled: Callable[[], bool]) -> None:
        assert source is not None
        copying.clone(
            self._settings.host(source), self.replication_password(), self._directory,
            self._run, cancelled, COPY_WITHIN, self._settings.clone_max_rate,
        )

    def rewind(self, source: str | None, cancelled: Callable[[], bool]) -> None:
        assert source is not None
        copying.rewind(
            self._settings.host(source), self.replication_password(), self._directory,
            self._server, self.conf(), self._run, cancelled, REWIND_WITHIN,
        )
