"""Inputs as the API server keeps them: quantities, and the empty values that it drops."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.provider.normal import normalized
from lab.provider.quantities import canonical, quantity

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("307200Ki", "300Mi"),
        ("0.5Gi", "512Mi"),
        ("1023Ki", "1023Ki"),
        ("512", "512"),
        ("0.5Ki", "512"),
        ("0.3Ki", "307200m"),
        ("0.5", "500m"),
        (0.5, "500m"),
        (2, "2"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("2000", "2k"),
        ("1e3", "1e3"),
        ("12e4", "120e3"),
        ("1E", "1E"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("0Mi", "0"),
        ("-1024Mi", "-1Gi"),
        ("10 apples", "10 apples"),
        ("1..2", "1..2"),
        ("1e3Mi", "1e3Mi"),
        (True, True),
    ],
)
def test_quantities_are_worded_as_the_api_server_does(given: Any, kept: Any) -> None:
    assert canonical(given) == kept


@given(st.integers(1, 10**15), st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "Gi"]))
def test_wording_changes_no_value_and_is_done_once(number: int, suffix: str) -> None:
    kept = canonical(f"{number}{suffix}")
    assert quantity(kept) == quantity(f"{number}{suffix}")
    assert canonical(kept) == kept


def test_the_value_of_a_quantity() -> None:
    assert quantity("1.5e3") == 1500
    assert quantity("10 apples") is None and quantity("1..2") is None


def stateful_set(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "pg"},
            "spec": spec}  # fmt: skip


def test_quantities_are_normalized_where_they_are_and_nowhere_else() -> None:
    template = {
        "metadata": {"labels": {"limits": "1024Mi"}},
        "spec": {
            "containers": [{"resources": {"limits": {"memory": "1024Mi", "cpu": 0.5}}}],
            "volumes": [{"emptyDir": {"sizeLimit": "1024Ki"}}],
        },
    }
    found = normalized(stateful_set(template=template))["spec"]["template"]
    assert found["metadata"]["labels"] == {"limits": "1024Mi"}
    assert found["spec"]["containers"][0]["resources"] == {
        "limits": {"memory": "1Gi", "cpu": "500m"}
    }
    assert found["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "1Mi"}
    data = {"requests": {"a": "1024Mi"}}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "data": data}
    assert normalized(config_map)["data"] == data
    custom = {"apiVersion": "example.dev/v1", "kind": "Thing", "limits": {"memory": "1024Mi"}}
    assert normalized(custom) == custom


def test_empty_values_that_the_server_drops_are_not_sent() -> None:
    spec = {
        "publishNotReadyAddresses": False,
        "template": {"spec": {
            "hostNetwork": False, "tolerations": [], "nodeName": "",
            "containers": [{"args": ["", "a"], "env": [{"name": "A", "value": ""}],
                            "livenessProbe": {"periodSeconds": 0}}],
        }},
    }  # fmt: skip
    container = {"args": ["", "a"], "env": [{"name": "A"}], "livenessProbe": {}}
    assert normalized(stateful_set(**spec))["spec"] == {
        "template": {"spec": {"containers": [container]}}
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 0},
        {"automountServiceAccountToken": False},
        {"securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False}},
        {"volumes": [{"name": "a", "emptyDir": {}}], "podSelector": {}},
        {"storageClassName": ""},
        {"selector": {"matchLabels": {"a": ""}}},
        {"optional": True, "hostNetwork": True},
    ],
)
def test_empty_values_that_mean_something_are_kept(spec: dict[str, Any]) -> None:
    assert normalized(stateful_set(**spec))["spec"] == spec


def test_a_custom_kind_is_sent_as_it_is() -> None:
    custom = {"apiVersion": "example.dev/v1", "kind": "Thing", "spec": {"list": [], "text": ""}}
    assert normalized(custom) == custom
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": []}
    assert normalized(role) == role
