"""Whose field is whose: taking over what a create made, and leaving alone what is ignored."""

from __future__ import annotations

from typing import Any

import pytest

from lab.provider.ownership import honoring, made_by_create, taken_over

pytestmark = pytest.mark.unit


def entry(manager: str, operation: str, *fields: str, **more: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for field in fields:
        inner = tree
        for key in field.split("."):
            inner = inner.setdefault(f"f:{key}", {})
    return {"manager": manager, "operation": operation, "fieldsV1": tree, **more}


def test_the_entry_of_the_create_is_handed_over() -> None:
    made = entry("pulumi-kubernetes", "Update", "data.a", time="T")
    status = entry("kube-controller-manager", "Update", "status", subresource="status")
    assert taken_over([made, status], "me") == [{**made, "manager": "me", "operation": "Apply"},
                                                status]  # fmt: skip


def test_what_is_owned_already_is_merged() -> None:
    mine = entry("me", "Apply", "data.a")
    edited = entry("kubectl", "Update", "data.b", "metadata.labels.x")
    found = taken_over([mine, edited], "me")
    assert found == [entry("me", "Apply", "data.b", "metadata.labels.x", "data.a")]


@pytest.mark.parametrize(
    ("manager", "operation", "taken"),
    [
        ("kubectl-edit", "Update", True),
        ("kubectl-patch", "Update", True),
        ("kubectl-client-side-apply", "Update", True),
        ("kubectl", "Apply", True),
        ("pulumi-kubernetes.exe", "Update", True),
        ("pulumi-kubernetes-1a2b3c4d", "Apply", False),
        ("kube-controller-manager", "Update", False),
        ("my-kubectl", "Update", False),
    ],
)
def test_whose_fields_are_taken_over(manager: str, operation: str, taken: bool) -> None:
    """What a person changed with kubectl is the program's again at the next update."""
    found = taken_over([entry(manager, operation, "data.a"), entry("me", "Apply", "data.b")], "me")
    assert (found is not None) is taken
    if found is not None:
        assert found == [entry("me", "Apply", "data.a", "data.b")]


def test_a_subresource_stays_its_managers() -> None:
    """`kubectl scale` writes by the subresource `scale`: a conflict, there as here."""
    scaled = entry("kubectl", "Update", "spec.replicas", subresource="scale")
    assert taken_over([scaled], "me") is None


def test_nothing_to_take_over() -> None:
    mine, other = entry("me", "Apply", "data.a"), entry("argocd", "Update", "data.b")
    assert taken_over([mine, other], "me") is None
    assert taken_over([], "me") is None
    assert made_by_create([entry("pulumi-kubernetes", "Update", "data")])
    assert made_by_create([entry("pulumi-kubernetes.exe", "Update", "data")])
    assert not made_by_create([mine, other, entry("kubectl-edit", "Update", "data")])


def test_an_ignored_field_of_another_manager_is_not_sent() -> None:
    obj = {"spec": {"replicas": 3, "paused": False}}
    live = {"spec": {"replicas": 5}, "metadata": {"managedFields": [
        entry("hpa", "Update", "spec.replicas"), entry("me", "Apply", "spec.paused")]}}  # fmt: skip
    assert honoring(obj, live, "me", ["spec.replicas"]) == {"spec": {"paused": False}}
    assert obj["spec"]["replicas"] == 3


def test_an_ignored_field_of_ones_own_is_sent_as_it_is_live() -> None:
    obj = {"spec": {"replicas": 3}}
    live = {"spec": {"replicas": 5}, "metadata": {"managedFields": [
        entry("hpa", "Update", "spec.replicas"), entry("me", "Apply", "spec.replicas"),
    ]}}  # fmt: skip
    assert honoring(obj, live, "me", ["spec.replicas"]) == {"spec": {"replicas": 5}}


def test_an_ignored_field_that_nobody_set_stays_out() -> None:
    obj: dict[str, Any] = {"metadata": {"name": "lease"}}
    live = {"metadata": {"name": "lease"}}
    assert honoring(obj, live, "me", ["spec"]) == obj
