"""Lease objects, role patches and error texts, without an API server."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pgha.kube.client import Conflict, Forbidden, Gone, Invalid, NotFound
from pgha.kube.errands import Wish, role_patch
from pgha.kube.errors import ApiUnreachable, from_answer
from pgha.kube.leases import LeaseApi, micro_time, parse_lease

pytestmark = pytest.mark.unit


class Recorder:
    """Stands for the API: keeps requests and answers with their body."""

    namespace = "demo"

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def request(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        self.requests.append((method, path, body))
        return dict(body)


OBJECT: dict[str, Any] = {
    "metadata": {
        "name": "db", "namespace": "demo", "uid": "u", "resourceVersion": "5",
        "labels": {"a": "b"}, "finalizers": ["x/y"],
        "annotations": {"other/key": "kept", "pgha.dev/record": "old", "pgha.dev/switchover": "s"},
        "managedFields": [{"manager": "pulumi"}],
    },
    "spec": {"holderIdentity": "db-0", "leaseTransitions": 3, "newKeyOfKubernetes": {"z": 1}},
}  # fmt: skip


def test_a_write_keeps_unknown_keys_and_does_not_change_what_was_read() -> None:
    api = Recorder()
    before = json.dumps(OBJECT)
    lease = parse_lease(OBJECT)
    notes = {"pgha.dev/record": "new"}
    LeaseApi(api, "db").write(  # type: ignore[arg-type]
        replace(lease, holder=None, renew_time="t", annotations=notes), 1
    )
    ((method, path, body),) = api.requests
    assert (method, path) == ("PUT", "/apis/coordination.k8s.io/v1/namespaces/demo/leases/db")
    assert body["metadata"]["resourceVersion"] == "5" and body["metadata"]["uid"] == "u"
    assert body["metadata"]["annotations"] == {"other/key": "kept", "pgha.dev/record": "new"}
    assert body["metadata"]["managedFields"] == [{"manager": "pulumi"}]
    assert body["spec"] == {
        "leaseTransitions": 3, "newKeyOfKubernetes": {"z": 1}, "renewTime": "t",
    }  # fmt: skip
    assert json.dumps(OBJECT) == before


def test_a_write_without_a_version_is_refused() -> None:
    lease = replace(parse_lease(OBJECT), resource_version="")
    with pytest.raises(ValueError, match="resourceVersion"):
        LeaseApi(Recorder(), "db").write(lease, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "obj",
    [{}, {"metadata": None, "spec": None}, {"metadata": [], "spec": "x"},
     {"metadata": {"annotations": {"a": 1}}, "spec": {"holderIdentity": 7,
      "leaseDurationSeconds": "15", "leaseTransitions": True, "renewTime": {}}}],
)  # fmt: skip
def test_a_malformed_lease_reads_as_absent(obj: dict[str, Any]) -> None:
    lease = parse_lease(obj)
    assert lease.holder is None and lease.duration is None and lease.transitions == 0
    assert lease.renew_time is None and lease.annotations == {}


def test_an_empty_holder_is_none() -> None:
    assert parse_lease({"spec": {"holderIdentity": ""}}).holder is None


def test_micro_time() -> None:
    assert micro_time(0) == "1970-01-01T00:00:00.000000Z"
    assert micro_time(1.9999999) == "1970-01-01T00:00:02.000000Z"


def pod(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "db-1", "uid": "u", "resourceVersion": "9", **metadata}}


WISH = Wish("db-1", "u", "primary", 7)


def test_a_bare_pod_gets_its_maps_first() -> None:
    assert role_patch(pod(), WISH) == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "9"},
        {"op": "add", "path": "/metadata/labels", "value": {}},
        {"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/labels/kubedb.com~1role", "value": "primary"},
        {"op": "add", "path": "/metadata/annotations/pgha.dev~1term", "value": "7"},
    ]


def test_a_labelled_pod_is_tested_for_the_term_that_is_replaced() -> None:
    labelled = pod(labels={"kubedb.com/role": "replica"}, annotations={"pgha.dev/term": "6"})
    patch = role_patch(labelled, WISH)
    assert patch[1] == {"op": "test", "path": "/metadata/annotations/pgha.dev~1term", "value": "6"}
    assert [each["op"] for each in patch] == ["test", "test", "add", "add"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"uid": "another"},
        {"labels": {"kubedb.com/role": "replica"}, "annotations": {"pgha.dev/term": "8"}},
        {"labels": {"kubedb.com/role": "primary"}, "annotations": {"pgha.dev/term": "7"}},
    ],
)
def test_nothing_is_patched(metadata: dict[str, Any]) -> None:
    assert role_patch(pod(**metadata), WISH) == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Forbidden), (403, Forbidden), (404, NotFound), (409, Conflict), (410, Gone),
     (422, Invalid)],
)  # fmt: skip
def test_errors_by_status(status: int, kind: type[Exception]) -> None:
    error = from_answer("GET", "/x", status, b'{"message": "m", "reason": "R"}')
    assert type(error) is kind and not error.ambiguous


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff\xfe", b'{"message": 7}'])
def test_an_error_without_a_status_object(body: bytes) -> None:
    error = from_answer("GET", "/x", 503, body, "soon")
    assert error.status == 503 and error.ambiguous and error.retry_after is None


def test_forbidden_names_verb_resource_and_remedy() -> None:
    body = json.dumps({"message": (
        'leases.coordination.k8s.io "db" is forbidden: User "system:serviceaccount:demo:db" cannot '
        'update resource "leases" in API group "coordination.k8s.io" in the namespace "demo"'
    )}).encode()  # fmt: skip
    error = from_answer("PUT", "/apis/coordination.k8s.io/v1/namespaces/demo/leases/db", 403, body)
    assert str(error) == (
        'the ServiceAccount may not update leases "db": add the verb update on leases (API group '
        '"coordination.k8s.io") to the Role of this cluster, `pulumi up` does it'
    )


def test_unreachable_is_ambiguous_unless_said_otherwise() -> None:
    assert ApiUnreachable("x").ambiguous and not ApiUnreachable("x", ambiguous=False).ambiguous
