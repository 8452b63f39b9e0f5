"""settings.json, by which the agents learn the config. Owns its form; the agent reads it in
`pgha.settings`. `replicas` is not in it: agents watch the StatefulSet, so that scaling rolls no
pod.
"""

from __future__ import annotations

import hashlib
import json

from components.config.cluster import ClusterConfig


def settings_json(config: ClusterConfig, username: str) -> str:
    """The text of settings.json; the same config gives the same text."""
    times = config.leader_election
    settings = {
        "name": config.name,
        "namespace": config.namespace,
        "appName": config.app_name,
        "version": config.version,
        "standbyMode": config.standby_mode,
        "streamingMode": config.streaming_mode,
        "strict": config.strict,
        "minSyncReplicas": config.min_sync_replicas,
        "leaderElection": {
            "leaseDurationSeconds": times.lease_duration_seconds,
            "renewDeadlineSeconds": times.renew_deadline_seconds,
            "retryPeriodSeconds": times.retry_period_seconds,
        },
        "maximumLagOnFailover": config.maximum_lag_bytes,
        "clone": {"maxRate": config.clone.max_rate_bytes},
        "username": username,
        "database": config.database,
        "parameters": {key.lower(): value for key, value in config.parameters.items()},
        "monitor": config.monitor or None,
        "clientTLS": config.client_tls.mode,
    }
    if config.quorum_failover:  # left out while off: the members of before need no restart
        settings["quorumFailover"] = True
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"


def settings_hash(text: str) -> str:
    """What the pod template bears, so that other settings roll the pods."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
