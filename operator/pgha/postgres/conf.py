"""The server's configuration as files. Owns which settings are the agent's and not the user's.

postgresql.conf and pg_hba.conf lie in the run folder (memory), not in PGDATA, so that no copy of a
data directory brings another member's along. What changes while the server runs (whom to follow,
for whom to wait) is one include file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPLICATION_USER = "pgha_replication"
WAL_KEPT_MB = 512  # the seed's wal_keep_segments = 32 of 16 MB each

#: Settings that the agent writes; they are removed from postgresql.auto.conf at each start.
OWNED = frozenset(
    """
    listen_addresses port unix_socket_directories unix_socket_permissions wal_level
    max_wal_senders max_replication_slots wal_keep_size wal_keep_segments max_slot_wal_keep_size
    wal_log_hints hot_standby recovery_target_timeline primary_conninfo primary_slot_name
    promote_trigger_file trigger_file restore_command recovery_target recovery_target_inclusive
    recovery_target_lsn recovery_target_name recovery_target_time recovery_target_xid
    recovery_target_action recovery_min_apply_delay recovery_end_command archive_cleanup_command
    synchronous_standby_names cluster_name update_process_title restart_after_crash
    wal_receiver_status_interval wal_receiver_timeout wal_sender_timeout
    wal_retrieve_retry_interval fsync full_page_writes data_sync_retry ssl ssl_cert_file
    ssl_key_file ssl_ca_file hba_file ident_file config_file data_directory external_pid_file
    logging_collector log_destination password_encryption
    """.split()
)


#: What a hot standby needs at least as much of as the primary has, and PostgreSQL's defaults.
LIMITS = {
    "max_connections": 100,
    "max_worker_processes": 8,
    "max_wal_senders": 99,  # the agent's
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 64,
}
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")


class ConfError(ValueError):
    """A parameter that cannot be written; one sentence."""


@dataclass(frozen=True)
class ServerConf:
    """What a start needs to know. `parameters` are the user's, and give way to the agent's."""

    name: str
    username: str
    major: int
    hot: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    certificate: Path | None = None  # PEM with its key; None: no TLS
    require_tls: bool = False  # of clients
    port: int = 5432
    timeline: str = "latest"  # recovery_target_timeline; a number, or `current`, to stay there
    sync_names: str = ""  # synchronous_standby_names to start with; a private server has none


def quoted(value: str) -> str:
    """A value as postgresql.conf wants it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", " ") + "'"


def settings(conf: ServerConf, run_dir: Path, private: bool) -> dict[str, str]:
    """The agent's own settings, in the words of the PostgreSQL documentation."""
    own = {
        "listen_addresses": "" if private else "*",
        "port": str(conf.port),
        "unix_socket_directories": str(run_dir),
        "unix_socket_permissions": "0700",  # nobody is asked for a password there
        "wal_level": "replica",
        "max_wal_senders": "99",
        "max_replication_slots": "50",
        "max_slot_wal_keep_size": f"{WAL_KEPT_MB}MB",
        "wal_log_hints": "on",
        "hot_standby": "on" if conf.hot else "off",
        "recovery_target_timeline": conf.timeline,
        "cluster_name": conf.name,
        "update_process_title": "on",
        # The agent decides what follows a crash: a postmaster that restarted by itself would
        # accept writes behind its back.
        "restart_after_crash": "off",
        "wal_receiver_status_interval": "1s",
        "wal_receiver_timeout": "10s",
        "wal_sender_timeout": "10s",
        "wal_retrieve_retry_interval": "500ms",
        "fsync": "on",
        "full_page_writes": "on",
        "data_sync_retry": "off",
        "logging_collector": "off",
        "log_destination": "stderr",
        "password_encryption": "scram-sha-256",
        "hba_file": str(run_dir / "pg_hba.conf"),
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
    own["wal_keep_size"] = f"{WAL_KEPT_MB}MB"
    if conf.certificate is not None:
        own |= {
            "ssl": "on",
            "ssl_cert_file": str(conf.certificate),
            "ssl_key_file": str(conf.certificate),
        }
    return own


def archiving(conf: ServerConf, altered: Mapping[str, str]) -> dict[str, str]:
    """Only a primary archives (law, point 13): of the values of archive_mode that the parameters
    or ALTER SYSTEM may have chosen, `always` gives way."""
    given = {k.lower(): v for k, v in conf.parameters.items()} | dict(altered)
    always = given.get("archive_mode", "").lower() == "always"
    return {"archive_mode": "on"} if always else {}


def at_least(conf: ServerConf, limits: Mapping[str, int]) -> dict[str, str]:
    """Settings below which a hot standby refuses to replay (documentation, "Hot Standby",
    Administrator's Overview): `limits` are the primary's, as the control file knows them."""
    given = {k.lower(): v for k, v in conf.parameters.items()}
    low = {}
    for name, default in LIMITS.items():
        wanted = given.get(name, str(default))
        if wanted.isdigit() and int(wanted) < limits.get(name, 0):
            low[name] = str(limits[name])
    return low


def write(conf: ServerConf, run_dir: Path, private: bool = False) -> Path:
    """All files but the include; the path of postgresql.conf."""
    for name in conf.parameters:
        if not _PARAMETER.fullmatch(name) or name.lower().startswith("include"):
            raise ConfError(f"parameters: {name!r} is no name of a PostgreSQL setting: take it out")
    user = {k: v for k, v in conf.parameters.items() if k.lower() not in OWNED}
    lines = ["# the stack's parameters\n"]
    lines += [f"{k} = {quoted(v)}\n" for k, v in sorted(user.items())]
    lines.append("# the agent's\n")
    lines += [f"{k} = {quoted(v)}\n" for k, v in settings(conf, run_dir, private).items()]
    lines.append(f"include = {quoted(str(run_dir / 'dynamic.conf'))}\n")
    path = run_dir / "postgresql.conf"
    _write(path, "".join(lines))
    _write(run_dir / "pg_hba.conf", hba(conf.require_tls))
    return path


def write_dynamic(
    run_dir: Path, conninfo: str = "", slot: str = "", sync_names: str = ""
) -> None:
    """The include: whom to follow and for whom to wait."""
    _write(
        run_dir / "dynamic.conf",
        f"primary_conninfo = {quoted(conninfo)}\n"
        f"primary_slot_name = {quoted(slot)}\n"
        f"synchronous_standby_names = {quoted(sync_names)}\n",
    )


def connection(
    host: str, port: int, name: str, run_dir: Path, dbname: str | None = None
) -> dict[str, str]:
    """libpq's words for a connection between members; the password is in a file.

    Whose certificate it is does not matter, so that the clients' CA may change: with the channel
    bound, only a server that knows the password's verifier, at this very TLS session's end, is
    taken (documentation, "SASL Authentication"; law, point 14).
    """
    parts = {
        "host": host,
        "port": str(port),
        "user": REPLICATION_USER,
        "passfile": str(run_dir / "pgpass"),
        "application_name": name,
        "connect_timeout": "3",
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
        "sslmode": "require",
        "channel_binding": "require",
    }
    if dbname:
        parts["dbname"] = dbname
    return parts


def conninfo(
    host: str, port: int, name: str, run_dir: Path, dbname: str | None = None
) -> str:
    """The same as one string."""
    parts = connection(host, port, name, run_dir, dbname)
    return " ".join(f"{k}={quoted(v)}" for k, v in parts.items())


def write_pgpass(run_dir: Path, password: str, host: str | None = None) -> None:
    """The password, for `host` alone or for every host."""
    where = "*" if host is None else _for_pgpass(host)
    _write(run_dir / "pgpass", f"{where}:*:*:{REPLICATION_USER}:{_for_pgpass(password)}\n")


def drop_pgpass(run_dir: Path) -> None:
    (run_dir / "pgpass").unlink(missing_ok=True)


def _for_pgpass(value: str) -> str:
    return value.replace("\\", "\\\\").replace(":", "\\:")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.chmod(0o600)
    temporary.replace(path)


def hba(require_tls: bool) -> str:
    """pg_hba.conf. The socket is for the agent: its folder is the container's own. Over the network
    a password, always; the replication role only by TLS, and only for replication and pg_rewind.
    `require_tls`: nobody else without it either."""
    return f"""\
local   all          all                          trust
hostssl replication  {REPLICATION_USER}  all      scram-sha-256
hostssl postgres     {REPLICATION_USER}  all      scram-sha-256
host    all          {REPLICATION_USER}  all      reject
host    replication  all                 all      reject
{"hostssl" if require_tls else "host   "} all          all                 all      scram-sha-256
"""
