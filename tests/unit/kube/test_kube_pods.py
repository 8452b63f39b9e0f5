"""Parsing of pods: what certifies a death, and tolerance of anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgha.kube.pods import parse_pod, parse_term

pytestmark = pytest.mark.unit

ID = "db-0/6f9d0a52-0000-4000-8000-000000000000/3"


def pod(state: Any = None, last: Any = None, **status: Any) -> dict[str, Any]:
    container = {"name": "postgres", "restartCount": 2, "state": state, "lastState": last}
    other = {"name": "sidecar", "state": {"terminated": {"message": "not-ours"}}}
    return {
        "metadata": {
            "name": "db-0", "uid": "u-0",
            "labels": {"kubedb.com/role": "primary", "controller-revision-hash": "db-5d4"},
            "annotations": {"pgha.dev/term": "7", "pgha.dev/settings": "abc"},
        },
        "spec": {"nodeName": "node1"},
        "status": {"podIP": "10.0.0.1", "containerStatuses": [other, container], **status},
    }  # fmt: skip


def test_a_running_pod() -> None:
    ready = [{"type": "Ready", "status": "True"}]
    view = parse_pod(pod({"running": {"startedAt": "2026-01-01T00:00:00Z"}}, conditions=ready))
    assert (view.name, view.uid, view.ip, view.node) == ("db-0", "u-0", "10.0.0.1", "node1")
    assert (view.role, view.term, view.ready, view.deleting) == ("primary", 7, True, False)
    assert view.container_state == "running" and view.started_at == "2026-01-01T00:00:00Z"
    assert view.restart_count == 2 and view.spec_hash == "db-5d4" and view.settings_hash == "abc"
    assert view.terminated_incarnation is None and view.dead_incarnations == ()


@pytest.mark.parametrize("message", [ID, f"{ID}\n", json.dumps({"incarnation": ID, "x": 1})])
def test_a_death_certificate(message: str) -> None:
    dead = {"terminated": {"exitCode": 137, "reason": "Error", "message": message}}
    assert parse_pod(pod(dead)).terminated_incarnation == ID
    assert parse_pod(pod(dead)).container_state == "terminated"
    restarted = parse_pod(pod({"running": {}}, dead))
    assert restarted.terminated_incarnation == ID and restarted.container_state == "running"
    waiting = parse_pod(pod({"waiting": {"reason": "CrashLoopBackOff"}}, dead))
    assert waiting.terminated_incarnation == ID and waiting.container_state == "waiting"


def test_both_states_certify() -> None:
    new = {"terminated": {"message": "new"}}
    view = parse_pod(pod(new, {"terminated": {"message": "old"}}))
    assert view.terminated_incarnation == "new" and view.dead_incarnations == ("new", "old")


@pytest.mark.parametrize(
    "state",
    [
        {"terminated": {"reason": "ContainerStatusUnknown", "message": ID}},
        {"terminated": {"reason": "Error"}},
        {"terminated": {"message": ""}},
        {"terminated": {"message": "FATAL:  could not write"}},
        {"terminated": {"message": '{"incarnation": 7'}},
        {"terminated": {"message": "[]"}},
        {"terminated": {"message": '{"a":' * 100_000}},
        {"terminated": {"message": 7}},
        {"running": {"message": ID}},
        {"waiting": {"message": ID}},
    ],
)
def test_what_certifies_nothing(state: dict[str, Any]) -> None:
    assert parse_pod(pod(state)).terminated_incarnation is None


def test_a_phase_or_a_deletion_certifies_nothing() -> None:
    obj = pod({"running": {}}, phase="Failed", reason="NodeLost", message=ID)
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    view = parse_pod(obj)
    assert view.deleting and view.terminated_incarnation is None


def test_shared_process_namespaces_are_seen() -> None:
    for key in ("shareProcessNamespace", "hostPID"):
        obj = pod({"running": {}})
        obj["spec"][key] = True
        assert parse_pod(obj).shares_processes
    assert not parse_pod(pod()).shares_processes


@pytest.mark.parametrize(
    ("text", "term"),
    [("7", 7), ("0", 0), ("-1", None), ("", None), ("seven", None), (None, None), (7, None),
     ("9" * 30, None), ("²", None)],
)  # fmt: skip
def test_terms(text: object, term: int | None) -> None:
    assert parse_term(text) == term


LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["metadata", "labels", "annotations", "spec", "status", "state", "name",
                         "containerStatuses", "lastState", "terminated", "message", "conditions",
                         "postgres", "kubedb.com/role"]),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), ANYTHING))
def test_it_tolerates_anything(obj: dict[str, Any]) -> None:
    view = parse_pod(obj)
    assert isinstance(view.name, str)


@given(ANYTHING)
def test_it_tolerates_any_container_status(container: Any) -> None:
    statuses = [container, {"name": "postgres", "state": container, "lastState": container}]
    view = parse_pod({"status": {"containerStatuses": statuses}})
    assert all(isinstance(incarnation, str) for incarnation in view.dead_incarnations)
