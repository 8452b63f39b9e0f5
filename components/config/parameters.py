"""Which PostgreSQL parameters a stack may set. Owns the list of those that are not its to set.

The reasons are law-like: a parameter that the agent owns would be silently overruled, and one
that weakens durability would make an acknowledged commit a lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from components.config.refusal import refusal

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)
_ON = frozenset({"on", "true", "yes", "1"})
_OFF = frozenset({"off", "false", "no", "0"})

AGENT_OWNED = frozenset(
    """
    allow_alter_system archive_cleanup_command bonjour cluster_name config_file data_directory
    external_pid_file hba_file hot_standby ident_file include include_dir include_if_exists
    listen_addresses log_destination logging_collector max_replication_slots
    max_slot_wal_keep_size max_wal_senders password_encryption port primary_conninfo
    primary_slot_name promote_trigger_file recovery_end_command recovery_min_apply_delay
    recovery_target recovery_target_action recovery_target_inclusive recovery_target_lsn
    recovery_target_name recovery_target_time recovery_target_timeline recovery_target_xid
    restart_after_crash restore_command ssl ssl_ca_file ssl_cert_file ssl_key_file standby_mode
    sync_replication_slots synchronized_standby_slots synchronous_standby_names
    tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval trigger_file
    unix_socket_directories unix_socket_group unix_socket_permissions update_process_title
    wal_keep_segments wal_keep_size wal_level wal_log_hints wal_receiver_status_interval
    wal_receiver_timeout wal_retrieve_retry_interval wal_sender_timeout
    """.split()
)
"""Set by the agent from the other keys of the config or from its role."""

MUST_BE_ON = frozenset({"fsync", "full_page_writes"})
MUST_BE_OFF = frozenset({"default_transaction_read_only", "data_sync_retry", "zero_damaged_pages"})
SYNCHRONOUS_COMMIT = frozenset({"remote_apply"}) | _ON


def check_parameters(path: str, parameters: Mapping[str, str]) -> None:
    """Refuses what may not be set; raises Refused with one sentence."""
    for name, value in parameters.items():
        where, low, word = f"{path}.{name}", name.lower(), value.strip().lower()
        if not _NAME.fullmatch(name):
            raise refusal(where, value, f"{name} is not the name of a PostgreSQL parameter")
        if low in AGENT_OWNED:
            raise refusal(where, value, f"{low} is set by the agent and may not be given")
        if low in MUST_BE_ON and word not in _ON:
            raise refusal(where, value, "allowed is on, or a crash loses acknowledged commits")
        if low in MUST_BE_OFF and word not in _OFF:
            raise refusal(where, value, "allowed is off")
        if low == "archive_mode" and word == "always":
            raise refusal(where, value, "allowed is on or off, since only the primary archives")
        if low == "synchronous_commit" and word not in SYNCHRONOUS_COMMIT:
            raise refusal(
                where,
                value,
                "allowed is on or remote_apply, since below on an acknowledged commit may be lost",
            )
        if any(ord(letter) < 32 for letter in value):
            raise refusal(where, value, "it must be one line without control characters")
