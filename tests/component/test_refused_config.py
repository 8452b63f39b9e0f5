"""Each config value that is not allowed ends in one sentence: key, value, what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.config.refusal import Refused
from components.config.stack import cluster_config
from pgha.postgres.conf import OWNED, REPLICATION_USER, ServerConf, archiving, settings
from tests.component.declared import SEED

pytestmark = pytest.mark.component

SYNC = {"streamingMode": "Synchronous"}


def storage(**keys: Any) -> dict[str, Any]:
    return {"storage": keys}


def sized(size: object) -> dict[str, Any]:
    return storage(resources={"requests": {"storage": size}})


def election(lease: object = 15, renew: object = 10, retry: object = 2) -> dict[str, Any]:
    return {
        "leaderElection": {
            "leaseDurationSeconds": lease,
            "renewDeadlineSeconds": renew,
            "retryPeriodSeconds": retry,
        }
    }


def parameter(name: str, value: object) -> dict[str, Any]:
    return {"parameters": {name: value}}


def client_tls(**keys: Any) -> dict[str, Any]:
    return {"clientTLS": keys}


def pod(**spec: Any) -> dict[str, Any]:
    return {"podTemplate": {"spec": spec}}


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"replicas": 0}, "replicas", "0", "1 to 32"),
    ({"replicas": 33}, "replicas", "33", "1 to 32"),
    ({"replicas": "many"}, "replicas", "many", "whole number"),
    ({"replicas": 1.5}, "replicas", "1.5", "whole number"),
    ({"replicas": True}, "replicas", "true", "whole number"),
    ({"standbyMode": "Lukewarm"}, "standbyMode", "Lukewarm", "Warm or Hot"),
    ({"standbyMode": "hot"}, "standbyMode", "hot", "Warm or Hot"),
    ({"streamingMode": "Sync"}, "streamingMode", "Sync", "Asynchronous or Synchronous"),
    ({"storageType": "Eternal"}, "storageType", "Eternal", "Durable or Ephemeral"),
    ({"deletionPolicy": "Keep"}, "deletionPolicy", "Keep", "Halt or Delete or WipeOut"),
    ({"monitor": "datadog"}, "monitor", "datadog", "prometheus.io/builtin"),
    ({"networkPolicy": "yes"}, "networkPolicy", "yes", "true or false"),
    ({"strict": "true"}, "strict", "true", "streamingMode Synchronous"),
    ({"strict": 1, **SYNC}, "strict", "1", "true or false"),
    ({"minSyncReplicas": 2}, "minSyncReplicas", "2", "streamingMode Synchronous"),
    ({"minSyncReplicas": 3, **SYNC}, "minSyncReplicas", "3", "less than replicas, which is 3"),
    ({"minSyncReplicas": 0, **SYNC}, "minSyncReplicas", "0", "1 or more"),
    ({"replicas": 1, **SYNC}, "minSyncReplicas", "1", "less than replicas, which is 1"),
    ({"version": "12.4"}, "version", "12.4", "PostgreSQL 13 to 18"),
    ({"version": "10.2-v5"}, "version", "10.2-v5", "from 13 to 18"),
    ({"version": "19"}, "version", "19", "PostgreSQL 13 to 18"),
    ({"version": "latest"}, "version", "latest", "from 13 to 18"),
    ({"name": "x" * 53}, "name", "x" * 53, "at most 52"),
    ({"name": "Ha"}, "name", "Ha", "lower-case"),
    ({"name": "1ha"}, "name", "1ha", "letter first"),
    ({"namespace": "De_mo"}, "namespace", "De_mo", "lower-case"),
    ({"appName": "a b"}, "appName", "a b", "label"),
    ({"username": "9lives"}, "username", "9lives", "letter or '_' first"),
    ({"username": "pg_owner"}, "username", "pg_owner", "pg_"),
    ({"username": REPLICATION_USER}, "username", REPLICATION_USER, "the operator's own role"),
    ({"database": "a'b"}, "database", "a'b", "letter or '_' first"),
    ({"image": "postgres 17"}, "image", "postgres 17", "container image"),
    ({"operatorImage": "-x"}, "operatorImage", "-x", "container image"),
    ({"maximumLagOnFailover": "a lot"}, "maximumLagOnFailover", "a lot", "size"),
    ({"maximumLagOnFailover": "0"}, "maximumLagOnFailover", "0", "greater than 0"),
    ({"clone": {"maxRate": "fast"}}, "clone.maxRate", "fast", "from 32Ki to 1Gi"),
    ({"clone": {"maxRate": "32767"}}, "clone.maxRate", "32767", "from 32Ki to 1Gi"),
    ({"clone": {"maxRate": "1025Mi"}}, "clone.maxRate", "1025Mi", "from 32Ki to 1Gi"),
    ({"clone": {"rate": "1Mi"}}, "clone.rate", "1Mi", "maxRate"),
    (election(lease=10), "leaderElection.leaseDurationSeconds", "10", "renewDeadlineSeconds"),
    (election(renew=2), "leaderElection.renewDeadlineSeconds", "2", "1.2 times"),
    (
        election(lease=14, renew=12, retry=10),
        "leaderElection.renewDeadlineSeconds",
        "12",
        "retryPeriodSeconds, which is 10",
    ),
    (election(retry=0), "leaderElection.retryPeriodSeconds", "0", "1 or more"),
    (election(lease=601), "leaderElection.leaseDurationSeconds", "601", "600 or less"),
    (election(lease=-1), "leaderElection.leaseDurationSeconds", "-1", "1 or more"),
    ({"leaderElection": {"lease": 1}}, "leaderElection.lease", "1", "leaseDurationSeconds"),
    ({"leaderElection": 15}, "leaderElection", "15", "map of keys"),
    (sized("1 GB"), "storage.resources.requests.storage", "1 GB", "as 1Gi"),
    (sized("0Gi"), "storage.resources.requests.storage", "0Gi", "greater than 0"),
    (sized(["1Gi"]), "storage.resources.requests.storage", '["1Gi"]', "text"),
    (
        storage(accessModes=["ReadOnlyMany"]),
        "storage.accessModes",
        '["ReadOnlyMany"]',
        "ReadWriteOnce",
    ),
    (storage(accessModes=[]), "storage.accessModes", "[]", "one or more"),
    (storage(accessModes="ReadWriteOnce"), "storage.accessModes", "ReadWriteOnce", "list"),
    (storage(dataSource={"name": "s"}), "storage.dataSource", "{", "left out"),
    (storage(size="1Gi"), "storage.size", "1Gi", "storageClassName"),
    (
        {"storageType": "Ephemeral"},
        "storage.storageClassName",
        "standard",
        "storageType Ephemeral",
    ),
    ({"authSecret": {"name": "A_b"}}, "authSecret.name", "A_b", "name of a Secret"),
    ({"authSecret": "mine"}, "authSecret", "mine", "map of keys"),
    ({"clientTLS": "Require"}, "clientTLS", "Require", "map of keys"),
    (client_tls(mode="Always"), "clientTLS.mode", "Always", "Prefer or Require"),
    (client_tls(secretName="A_b"), "clientTLS.secretName", "A_b", "name of a Secret"),
    (client_tls(validityDays=1), "clientTLS.validityDays", "1", "from 2 to 3650"),
    (client_tls(validityDays=3651), "clientTLS.validityDays", "3651", "from 2 to 3650"),
    (client_tls(validityDays="1y"), "clientTLS.validityDays", "1y", "whole number"),
    (client_tls(ca="x"), "clientTLS.ca", "x", "mode, secretName, validityDays"),
    (pod(shareProcessNamespace=True), "podTemplate.spec.shareProcessNamespace", "true", "false"),
    (pod(hostPID=True), "podTemplate.spec.hostPID", "true", "false"),
    (pod(hostNetwork=True), "podTemplate.spec.hostNetwork", "true", "tolerations"),
    (pod(resources="2Gi"), "podTemplate.spec.resources", "2Gi", "map"),
    (pod(tolerations={}), "podTemplate.spec.tolerations", "{}", "list"),
    (
        {"podTemplate": {"metadata": {"labels": {"kubedb.com/role": "primary"}}}},
        "podTemplate.metadata.labels.kubedb.com/role",
        "primary",
        "set by this program",
    ),
    (
        {"podTemplate": {"metadata": {"labels": {"team": "a b"}}}},
        "podTemplate.metadata.labels.team",
        "a b",
        "63 letters",
    ),
    (
        {"podTemplate": {"metadata": {"annotations": {"pgha.dev/settings": "x"}}}},
        "podTemplate.metadata.annotations.pgha.dev/settings",
        "x",
        "set by this program",
    ),
    ({"parameters": ["a"]}, "parameters", '["a"]', "map"),
    (parameter("fsync", "off"), "parameters.fsync", "off", "allowed is on"),
    (parameter("fsync", False), "parameters.fsync", "off", "allowed is on"),
    (parameter("FSYNC", "0"), "parameters.FSYNC", "0", "allowed is on"),
    (parameter("full_page_writes", "off"), "parameters.full_page_writes", "off", "allowed is on"),
    (
        parameter("synchronous_commit", "local"),
        "parameters.synchronous_commit",
        "local",
        "on or remote_apply",
    ),
    (
        parameter("synchronous_commit", "remote_write"),
        "parameters.synchronous_commit",
        "remote_write",
        "on or remote_apply",
    ),
    (parameter("archive_mode", "Always"), "parameters.archive_mode", "Always", "on or off"),
    (parameter("data_sync_retry", "on"), "parameters.data_sync_retry", "on", "off"),
    (parameter("work mem", "4MB"), "parameters.work mem", "4MB", "name of a PostgreSQL parameter"),
    (parameter("work_mem", "4MB\nfsync=off"), "parameters.work_mem", "4MB", "one line"),
    ({"quorumFailover": "true"}, "quorumFailover", "true", "streamingMode Synchronous"),
    ({"quorumFailover": "often", **SYNC}, "quorumFailover", "often", "true or false"),
    ({"createNamespace": "true"}, "createNamespace", "true", "kubectl create namespace"),
    ({"replica": 3}, "replica", "3", "replicas"),
]


@pytest.mark.parametrize(
    ("config", "key", "value", "allowed"), REFUSED, ids=[f"{r[1]}={r[2]}" for r in REFUSED]
)
def test_value_is_refused(config: dict[str, Any], key: str, value: str, allowed: str) -> None:
    with pytest.raises(Refused) as refused:
        cluster_config({**SEED, **config}, "test")
    sentence = str(refused.value)
    assert sentence.startswith(f"Config key {key} is {value}")
    assert allowed in sentence
    assert sentence.endswith(".") and "Traceback" not in sentence


AGENT_OWNED = """
    primary_conninfo primary_slot_name hot_standby wal_level listen_addresses port
    synchronous_standby_names restore_command recovery_target_timeline recovery_target_lsn
    promote_trigger_file unix_socket_directories data_directory hba_file max_wal_senders
    max_replication_slots wal_keep_size wal_keep_segments wal_log_hints update_process_title
    recovery_min_apply_delay include config_file max_slot_wal_keep_size restart_after_crash
""".split()


@pytest.mark.parametrize("name", AGENT_OWNED)
def test_parameter_of_the_agent_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=f"parameters.{name.upper()} is x, but {name} is set by the"):
        cluster_config({**SEED, "parameters": {name.upper(): "x"}}, "test")


SERVER = ServerConf("ha-0", "postgres", 17, certificate=Path("/tls.pem"))
WRITTEN = settings(SERVER, Path("/run"), private=False)


@pytest.mark.parametrize("name", sorted(OWNED | set(WRITTEN)))
def test_no_value_is_taken_that_the_agent_would_overrule(name: str) -> None:
    """Of what the agent writes the config takes nothing, or that very value (fsync)."""
    for value in ("on", "off", "x"):
        if value != WRITTEN.get(name):
            with pytest.raises(Refused, match=f"parameters.{name} is {value}, but"):
                cluster_config({**SEED, **parameter(name, value)}, "test")


@pytest.mark.parametrize("value", ["on", "off", "always", "ALWAYS"])
def test_archive_mode_is_taken_where_the_agent_leaves_it(value: str) -> None:
    overruled = archiving(ServerConf("ha-0", "u", 17, parameters={"archive_mode": value}), {})
    try:
        cluster_config({**SEED, **parameter("archive_mode", value)}, "test")
    except Refused:
        assert overruled
    else:
        assert not overruled
