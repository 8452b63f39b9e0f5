"""What counts as a difference, and what replaces an object."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.provider import kinds
from lab.provider.differences import Change, differences, ignored, pruned
from lab.provider.wire import UNKNOWN

pytestmark = pytest.mark.unit

TREES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def shown(old: Any, new: Any) -> dict[str, str]:
    return {change.path: change.how for change in differences(old, new)}


def test_paths_are_those_of_the_engine() -> None:
    old = {"spec": {"ports": [{"port": 80}]}, "metadata": {"annotations": {"a.b/c": "1"}}}
    new = {"spec": {"ports": [{"port": 81}, {"port": 82}]},
           "metadata": {"annotations": {"a.b/c": "2"}}}  # fmt: skip
    assert shown(old, new) == {
        'metadata.annotations["a.b/c"]': "update",
        "spec.ports[0].port": "update",
        "spec.ports[1]": "add",
    }
    assert shown({"a": 1, "b": [1, 2]}, {"b": [1]}) == {"a": "delete", "b[1]": "delete"}


def test_null_is_absent_and_truth_is_no_number() -> None:
    assert shown({"a": None}, {}) == {}
    assert shown({}, {"a": None}) == {}
    assert shown({"a": True}, {"a": 1}) == {"a": "update"}


def test_an_unknown_value_differs_from_all() -> None:
    assert shown({"a": UNKNOWN}, {"a": UNKNOWN}) == {"a": "update"}


@given(TREES)
def test_a_tree_does_not_differ_from_itself(tree: Any) -> None:
    assert differences(tree, tree) == []


@given(TREES, TREES)
def test_pruning_to_a_shape_is_done_once_and_for_all(live: Any, shape: Any) -> None:
    once = pruned(live, shape)
    assert pruned(once, shape) == once
    assert pruned(live, live) == live


def test_fields_of_others_are_no_drift() -> None:
    live = {"metadata": {"labels": {"mine": "1", "foreign": "2"}}, "spec": {"holder": "me"},
            "list": [{"name": "a", "phase": "Pending"}]}  # fmt: skip
    inputs = {"metadata": {"labels": {"mine": "1"}}, "list": [{"name": "a"}]}
    assert differences(pruned(live, inputs), inputs) == []


def test_quantities_compare_by_value_where_quantities_are() -> None:
    def resources(memory: object, cpu: object) -> dict[str, Any]:
        return {"spec": {"containers": [{"resources": {"limits": {"memory": memory, "cpu": cpu}}}]}}

    assert shown(resources("1Gi", "500m"), resources("1024Mi", "0.5")) == {}
    assert shown(resources("1Gi", "1"), resources("2Gi", 1)) == {
        "spec.containers[0].resources.limits.memory": "update"
    }
    assert shown({"data": {"size": "1Gi"}}, {"data": {"size": "1024Mi"}}) == {
        "data.size": "update"
    }
    # A key of a ConfigMap may have any name.
    assert shown({"data": {"limits": "1Gi"}}, {"data": {"limits": "1024Mi"}})


def test_ignored_paths() -> None:
    assert ignored("spec.volumeClaimTemplates[0].spec", ["spec.volumeClaimTemplates"])
    assert ignored("spec", ["spec"])
    assert ignored('metadata.annotations["a.b/c"]', ['metadata.annotations["a.b/c"]'])
    assert ignored("spec.containers[1].image", ["spec.containers[*].image"])
    assert ignored("spec.containers[1].image", ["spec.containers[1]"])
    assert not ignored("spec.containers[1].image", ["spec.containers[0].image"])
    assert not ignored("spec", ["spec.containers"])
    assert not ignored("specification", ["spec"])


def replaced(obj: dict[str, Any], path: str, value: Any = 1, mutable: bool = False) -> bool:
    return Change(path, "update", value).replaces(kinds.replacing(obj, mutable))


@pytest.mark.parametrize(
    ("version", "kind", "path"),
    [
        ("v1", "ConfigMap", "metadata.name"),
        ("v1", "ConfigMap", 'data["settings.json"]'),
        ("v1", "Secret", "data.password"),
        ("v1", "Secret", "type"),
        ("v1", "Service", "spec.clusterIP"),
        ("v1", "PersistentVolumeClaim", "spec.storageClassName"),
        ("v1", "Pod", "spec.containers[0].image"),
        ("apps/v1", "StatefulSet", "spec.volumeClaimTemplates[0].spec.resources"),
        ("apps/v1", "StatefulSet", "spec.serviceName"),
        ("apps/v1", "Deployment", "spec.selector.matchLabels.app"),
        ("batch/v1", "Job", "spec.template.spec.containers[0].image"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", "roleRef.name"),
        ("storage.k8s.io/v1", "StorageClass", "provisioner"),
    ],
)
def test_what_replaces(version: str, kind: str, path: str) -> None:
    assert replaced({"apiVersion": version, "kind": kind}, path)


@pytest.mark.parametrize(
    ("version", "kind", "path"),
    [
        ("v1", "ConfigMap", "metadata.labels.app"),
        ("v1", "Service", "spec.selector.app"),
        ("v1", "Service", "spec.clusterIPs[0]"),
        ("v1", "PersistentVolumeClaim", "spec.resources.requests.storage"),
        ("apps/v1", "StatefulSet", "spec.replicas"),
        ("apps/v1", "StatefulSet", "spec.template.spec.containers[0].image"),
        ("apps/v1", "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy.whenDeleted"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", "subjects[0].name"),
        ("rbac.authorization.k8s.io/v1", "Role", "rules[0].verbs"),
    ],
)
def test_what_is_changed_in_place(version: str, kind: str, path: str) -> None:
    assert not replaced({"apiVersion": version, "kind": kind}, path)


def test_a_subtree_that_holds_a_replacing_field_replaces() -> None:
    obj = {"apiVersion": "v1", "kind": "Service"}
    assert replaced(obj, "spec", {"clusterIP": "None"})
    assert not replaced(obj, "spec", {"type": "ClusterIP"})
    assert not replaced(obj, "spec", UNKNOWN)
    pod = {"apiVersion": "v1", "kind": "Pod"}
    assert replaced(pod, "spec.containers", [{"name": "a"}, {"name": "b", "image": "x"}])


def test_data_may_change_in_place_if_the_provider_is_told_so() -> None:
    obj: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert not replaced(obj, "data.a", mutable=True)
    assert replaced({**obj, "immutable": True}, "data.a", mutable=True)
