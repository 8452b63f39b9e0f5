"""Config values that are allowed, and how they are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import table
from components.config.cluster import ClusterConfig
from components.config.quantity import quantity_bytes
from components.config.refusal import Refused
from components.config.stack import cluster_config
from components.settings import settings_hash, settings_json
from pgha.settings import Settings
from tests.component.declared import SEED

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[2]


def test_defaults_are_the_documented_ones() -> None:
    config = cluster_config({}, "mystack")
    assert (config.name, config.replicas, config.standby_mode) == ("mystack", 3, "Warm")
    assert config.streaming_mode == "Asynchronous"
    times = config.leader_election
    assert (times.lease_duration_seconds, times.renew_deadline_seconds) == (15, 10)
    assert times.retry_period_seconds == 2
    assert config.deletion_policy == "Halt"
    assert config.storage.access_modes == ("ReadWriteOnce",)


def test_values_come_as_pulumi_hands_them_over() -> None:
    values = {
        "name": "ha",
        "replicas": "5",
        "strict": "true",
        "streamingMode": "Synchronous",
        "storage": json.dumps({"resources": {"requests": {"storage": "2Gi"}}}),
        "parameters": json.dumps({"jit": False, "work_mem": "8MB", "max_connections": 200}),
        "podTemplate": json.dumps({"controller": {}, "metadata": {}, "spec": {"resources": {}}}),
        "authSecret": "{}",
    }
    config = cluster_config(values, "test")
    assert (config.replicas, config.strict, config.storage.size) == (5, True, "2Gi")
    assert config.parameters == {"jit": "off", "work_mem": "8MB", "max_connections": "200"}


def test_a_boolean_in_a_map_becomes_the_word_that_its_reader_knows() -> None:
    """`pulumi config set --path` makes a boolean of true: PostgreSQL's on, a label's "true"."""
    given: dict[str, Any] = {"a": True, "b": False, "c": 2.0}
    as_labels = {"a": "true", "b": "false", "c": "2"}
    maps = {"labels": given, "annotations": given}
    template = {"metadata": maps, "controller": maps, "spec": {"nodeSelector": given}}
    config = cluster_config({"parameters": given, "podTemplate": json.dumps(template)}, "test")
    assert config.parameters == {"a": "on", "b": "off", "c": "2"}
    for metadata in (config.pod_template.metadata, config.pod_template.controller):
        assert metadata.labels == metadata.annotations == as_labels
    assert config.pod_template.spec.node_selector == as_labels


def test_the_seeds_own_spec_is_accepted() -> None:
    """The keys that the seed prints of a running cluster, those that are null included."""
    seed = {
        "authSecret": {"name": "ha-mssqlserver-auth"},
        "podTemplate": {"controller": {}, "metadata": {}, "spec": {"resources": {}}},
        "storage": {
            "accessModes": ["ReadWriteOnce"],
            "dataSource": None,
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "standard",
        },
        "deletionPolicy": "Halt",
    }
    assert cluster_config({**SEED, **seed}, "test").auth_secret.name == "ha-mssqlserver-auth"


@pytest.mark.parametrize(
    ("text", "size"),
    [("1Gi", 2**30), ("1G", 10**9), ("500Mi", 500 * 2**20), ("1.5Ki", 1536), ("7", 7)],
)
def test_quantity(text: str, size: int) -> None:
    assert quantity_bytes(text) == size


@settings(deadline=None)
@given(st.text(max_size=12))
def test_no_text_breaks_the_quantity(text: str) -> None:
    assert quantity_bytes(text) is None or quantity_bytes(text) > 0  # type: ignore[operator]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["replicas", "storage", "parameters", "podTemplate", "version", "strict"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["spec", "resources", "a"]), inner, max_size=2)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_value_is_read_or_refused(values: dict[str, Any]) -> None:
    """Nothing but Refused comes out of a config that is not allowed."""
    try:
        made = cluster_config({**SEED, **values}, "test")
    except Refused as refused:
        assert str(refused).startswith("Config key ")
    else:
        assert isinstance(made, ClusterConfig)


def test_settings_are_what_the_agent_reads() -> None:
    config = cluster_config({**SEED, "parameters": {"Work_Mem": "8MB"}}, "test")
    assert json.loads(settings_json(config, "somebody")) == {
        "name": "ha-mssqlserver",
        "namespace": "demo",
        "appName": "mssqlserveres.kubedb.com",
        "version": "13.13",
        "standbyMode": "Warm",
        "streamingMode": "Asynchronous",
        "strict": False,
        "minSyncReplicas": 1,
        "leaderElection": {
            "leaseDurationSeconds": 15,
            "renewDeadlineSeconds": 10,
            "retryPeriodSeconds": 2,
        },
        "maximumLagOnFailover": 16 * 2**20,
        "clone": {"maxRate": None},
        "username": "somebody",
        "database": "mssqlserver",
        "parameters": {"work_mem": "8MB"},
        "monitor": None,
        "clientTLS": "Prefer",
    }


def test_quorum_failover_is_said_only_where_it_is_on() -> None:
    """Off, the settings are to the letter those of a cluster that never heard of it."""
    def said(value: bool) -> dict[str, Any]:
        keys = {**SEED, "streamingMode": "Synchronous", "quorumFailover": value}
        found: dict[str, Any] = json.loads(settings_json(cluster_config(keys, "test"), "u"))
        return found

    assert "quorumFailover" not in said(False)
    assert said(True) == {**said(False), "quorumFailover": True}
    assert Settings.parse(said(True)).quorum_failover
    assert not Settings.parse(said(False)).quorum_failover


@pytest.mark.parametrize(
    ("given", "rate"), [("32Ki", 2**15), ("50Mi", 50 * 2**20), ("1Gi", 2**30), ("1M", 10**6)]
)
def test_a_clones_rate_is_in_bytes_a_second(given: str, rate: int) -> None:
    config = cluster_config({**SEED, "clone": {"maxRate": given}}, "test")
    assert json.loads(settings_json(config, "u"))["clone"] == {"maxRate": rate}


def test_replicas_do_not_change_the_settings() -> None:
    """Scaling must roll no pod; a mode change must roll them."""

    def hashed(**keys: Any) -> str:
        return settings_hash(settings_json(cluster_config({**SEED, **keys}, "test"), "u"))

    assert hashed(replicas=3) == hashed(replicas=5)
    assert hashed(standbyMode="Warm") != hashed(standbyMode="Hot")


def test_documentation_is_current() -> None:
    remedy = "run `python -m components.config.table`"
    assert (ROOT / "docs" / "config.md").read_text() == table.markdown(), remedy
    project = (ROOT / "Pulumi.yaml").read_text()
    assert project == table.project_file(project), remedy


def test_every_key_is_described() -> None:
    rows = list(table.rows(ClusterConfig))
    assert len(rows) > 30
    assert [name for name, _, _, text in rows if not text] == []


@pytest.mark.parametrize("stack", ["ha-mssqlserver", "hot-mssqlserver", "dev", "prod"])
def test_stack_file_is_valid_and_typed(stack: str) -> None:
    config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    schema = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    values = {key.removeprefix("pgha:"): value for key, value in config.items()}
    assert set(values) <= set(schema)
    made = cluster_config(values, stack)
    assert made.name == stack


def test_the_seeds_stacks_differ_in_name_and_mode_alone() -> None:
    def read(stack: str) -> ClusterConfig:
        config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
        return cluster_config({k.removeprefix("pgha:"): v for k, v in config.items()}, stack)

    warm, hot = read("ha-mssqlserver"), read("hot-mssqlserver")
    assert replace(warm, name=hot.name, standby_mode="Hot") == hot
    assert (warm.standby_mode, warm.app_name) == ("Warm", SEED["appName"])
    assert (warm.version, warm.namespace, warm.username) == ("13.13", "demo", "mssqlserver")
