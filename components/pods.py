"""The members' pod, as Kubernetes words it. Owns every field of it; pure.

It passes pod-security `restricted`. An init container copies the agent's folder into an emptyDir,
and the stock PostgreSQL image runs it as PID 1.
"""

from __future__ import annotations

from typing import Any

from components.config.cluster import BUILTIN, ClusterConfig
from components.naming import HTTP_PORT, PEERS_PORT, POSTGRES_PORT, Names

POSTGRES_UID = 999
SETTINGS_ANNOTATION = "pgha.dev/settings"
GRACE_SECONDS = 60

_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_template(
    config: ClusterConfig, names: Names, auth_secret: str, tls_secret: str, settings_hash: str
) -> dict[str, Any]:
    """The StatefulSet's spec.template. Role labels are not in it: the agents set them."""
    given = config.pod_template
    scrape = (
        {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(HTTP_PORT),
            "prometheus.io/path": "/metrics",
        }
        if config.monitor == BUILTIN
        else {}
    )
    return {
        "metadata": {
            "labels": {**given.metadata.labels, **names.selector},
            "annotations": {
                **scrape,
                **given.metadata.annotations,
                SETTINGS_ANNOTATION: settings_hash,
            },
        },
        "spec": {
            "serviceAccountName": names.name,
            "automountServiceAccountToken": True,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": POSTGRES_UID,
                "runAsGroup": POSTGRES_UID,
                "fsGroup": POSTGRES_UID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [_operator(config)],
            "containers": [_postgres(config)],
            "volumes": _volumes(config, names, auth_secret, tls_secret),
            **_placement(config, names),
        },
    }


def _operator(config: ClusterConfig) -> dict[str, Any]:
    return {
        "name": "operator",
        "image": config.operator_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/pgha/bin/pgha", "install", "/operator"],
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": [{"name": "operator", "mountPath": "/operator"}],
        **_resources(config),
    }


def _postgres(config: ClusterConfig) -> dict[str, Any]:
    def field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    def probe(path: str, period: int, timeout: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": failures,
        }

    return {
        "name": "postgres",
        "image": config.postgres_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/pgha/bin/pgha", "agent"],
        "env": [
            field("POD_NAME", "metadata.name"),
            field("POD_UID", "metadata.uid"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_IP", "status.podIP"),
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
            {"name": "LANG", "value": "C.UTF-8"},
            {"name": "HOME", "value": "/tmp"},
        ],
        "ports": [
            {"name": "postgres", "containerPort": POSTGRES_PORT, "protocol": "TCP"},
            {"name": "peers", "containerPort": PEERS_PORT, "protocol": "TCP"},
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": probe("/readyz", 1, 2, 3),
        "livenessProbe": probe("/livez", 5, 3, 6),
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "operator", "mountPath": "/pgha", "readOnly": True},
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "run", "mountPath": "/run/pgha"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "config", "mountPath": "/etc/pgha/config", "readOnly": True},
            {"name": "auth", "mountPath": "/etc/pgha/auth", "readOnly": True},
            {"name": "members", "mountPath": "/etc/pgha/members", "readOnly": True},
            {"name": "tls", "mountPath": "/etc/pgha/tls", "readOnly": True},
        ],
        **_resources(config),
    }


def _resources(config: ClusterConfig) -> dict[str, Any]:
    """The same for both containers: they never run at once, and a quota may demand them."""
    given = config.pod_template.spec.resources
    return {"resources": given} if given else {}


def _volumes(
    config: ClusterConfig, names: Names, auth_secret: str, tls_secret: str
) -> list[dict[str, Any]]:
    secret_mode = 0o440  # readable by fsGroup alone
    volumes: list[dict[str, Any]] = [
        {"name": "operator", "emptyDir": {}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "tmp", "emptyDir": {}},
        # The runtime's own /dev/shm has 64 MiB, which a parallel hash join outgrows.
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": names.config_map}},
        {"name": "auth", "secret": {"secretName": auth_secret, "defaultMode": secret_mode}},
        {
            "name": "members",
            "secret": {"secretName": names.members_secret, "defaultMode": secret_mode},
        },
        {"name": "tls", "secret": {"secretName": tls_secret, "defaultMode": secret_mode}},
    ]
    if not config.durable:
        limit = config.storage.resources.requests.storage
        volumes.append({"name": "data", "emptyDir": {"sizeLimit": limit} if limit else {}})
    return volumes


def _placement(config: ClusterConfig, names: Names) -> dict[str, Any]:
    spec = config.pod_template.spec
    apart = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": names.selector},
                    },
                }
            ]
        }
    }
    wanted: dict[str, Any] = {
        "affinity": spec.affinity or apart,
        "tolerations": list(spec.tolerations),
        "nodeSelector": spec.node_selector,
        "topologySpreadConstraints": list(spec.topology_spread_constraints),
        "priorityClassName": spec.priority_class_name,
        "imagePullSecrets": list(spec.image_pull_secrets),
    }
    return {key: value for key, value in wanted.items() if value}
