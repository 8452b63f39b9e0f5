"""What a stack tells its user: addresses, DSNs, commands. Owns their form; declares nothing.

The multi-host DSNs name the members themselves: libpq tries them in turn and takes the one that
fits target_session_attrs, so that a failover costs a client no kube-proxy sync. The one for writes
asks the Service first: it is right but for the moment of a failover, while the name of a member
that moved can lead to its former address for as long as a DNS cache keeps it. The settings that
bound a dead host: connect_timeout (seconds), tcp_user_timeout (milliseconds), keepalives.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pulumi

from components.config.cluster import ClusterConfig
from components.naming import POSTGRES_PORT, Names

CLIENT_SETTINGS = {
    "connect_timeout": "2",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}


def dsn(
    user: str,
    password: str | None,
    hosts: list[str],
    database: str,
    session: str | None,
    sslmode: str | None = None,
) -> str:
    """A connection URI of libpq 12 or later. From 14 on it knows prefer-standby, and tries the next
    host after one that does not let clients in yet, as a warm standby never does."""
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    where = ",".join(f"{host}:{POSTGRES_PORT}" for host in hosts)
    chosen = {"target_session_attrs": session} if session else {}
    encrypted = {"sslmode": sslmode} if sslmode else {}
    query = urlencode({**chosen, **encrypted, **CLIENT_SETTINGS})
    return f"postgresql://{login}@{where}/{quote(database, safe='')}?{query}"


def psql_command(config: ClusterConfig) -> str:
    """Opens psql in the primary's pod, with the Secret's user and password."""
    inside = (
        'PGPASSWORD="$(cat /etc/pgha/auth/POSTGRES_PASSWORD)" psql -h 127.0.0.1 '
        f'-U "$(cat /etc/pgha/auth/POSTGRES_USER)" -d {config.database}'
    )
    return f"{_exec(config, '-it ')} sh -c '{inside}'"


def status_command(config: ClusterConfig) -> str:
    """Prints the cluster's state as its primary sees it."""
    return f"{_exec(config)} /pgha/bin/pgha status"


def _exec(config: ClusterConfig, flags: str = "") -> str:
    return f"kubectl exec {flags}-n {config.namespace} svc/{config.name} -c postgres --"


def cluster_outputs(
    config: ClusterConfig,
    names: Names,
    user: str,
    password: pulumi.Output[str] | None,
    secret_name: str,
    ca_certificate: pulumi.Output[str] | None,
) -> dict[str, Any]:
    """All outputs by name. DSNs are secret when they hold the password; a preview that cannot
    read your own Secrets leaves it, and the CA's certificate, out."""
    sslmode = "require" if config.client_tls.mode == "Require" else None
    members = [names.member_host(ordinal) for ordinal in range(config.replicas)]

    def with_password(hosts: list[str], session: str | None) -> pulumi.Output[str]:
        known: pulumi.Output[str | None] = pulumi.Output.from_input(password)
        return known.apply(
            lambda secret: dsn(user, secret, hosts, config.database, session, sslmode)
        )

    primary = names.service_host(names.name)
    write = with_password([primary, *members], "read-write")
    outputs: dict[str, Any] = {
        "name": names.name,
        "namespace": names.namespace,
        "primaryService": primary,
        "replicasService": names.service_host(names.replicas_service),
        "secretName": secret_name,
        "dsnWrite": write,
        "dsnRead": with_password(members, "prefer-standby") if config.hot else write,
        "dsnService": with_password([primary], None),
        "psqlCommand": psql_command(config),
        "statusCommand": status_command(config),
    }
    if ca_certificate is not None:
        outputs["caCertificate"] = ca_certificate
    if config.hot:
        standby = names.service_host(names.standby_service)
        outputs |= {"standbyService": standby, "dsnStandby": with_password([standby], None)}
    return outputs
