"""Labels, annotations and Events written to a real API server, also through the fault proxy."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pgha.kube.client import MERGE_PATCH, Api
from pgha.kube.errands import APART, Errands
from pgha.kube.pods import parse_pod
from tests.integration.kube.apiserver import NAMESPACE, ApiServer
from tests.integration.kube.faultproxy import Fault, FaultProxy
from tests.support.waiting import until

pytestmark = pytest.mark.integration

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NODES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"


@pytest.fixture
def agent(kube: ApiServer, proxy: FaultProxy) -> Api:
    """The rights of the Role that components make, not more."""
    rbac = {"apiGroup": "rbac.authorization.k8s.io"}
    names = [f"db-{n}" for n in range(32)]
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"], "resourceNames": names},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    ]
    kube.admin.request("POST", f"{NODES}/roles", {"metadata": {"name": "b"}, "rules": rules})
    kube.admin.request("POST", f"{NODES}/rolebindings", {
        "metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "agent", **rbac}],
        "roleRef": {"kind": "Role", "name": "b", **rbac}})  # fmt: skip
    return kube.agent(proxy.url)


@pytest.fixture
def uids(kube: ApiServer) -> dict[str, str]:
    return {name: parse_pod(kube.pod(name)).uid for name in ("db-0", "db-1", "db-2")}


@pytest.fixture
def errands(agent: Api, uids: dict[str, str]) -> Iterator[Errands]:
    made = Errands(agent, "db-0", uids["db-0"], "db")
    yield made
    made.stop()


def roles(kube: ApiServer) -> dict[str, tuple[str | None, int | None]]:
    items = kube.admin.request("GET", PODS)["items"]
    views = [parse_pod(item) for item in items]
    return {view.name: (view.role, view.term) for view in views}


def set_roles(errands: Errands, uids: dict[str, str], primary: str, term: int) -> None:
    others = [(name, uid) for name, uid in uids.items() if name != primary]
    errands.set_roles((primary, uids[primary]), others, term)


def test_roles_move_with_the_term(
    kube: ApiServer, errands: Errands, uids: dict[str, str], proxy: FaultProxy
) -> None:
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    assert roles(kube) == {
        "db-0": ("replica", 7), "db-1": ("primary", 7), "db-2": ("replica", 7),
    }  # fmt: skip
    patched = [path for method, path in proxy.seen if method == "PATCH"]
    assert sorted(path[-4:] for path in patched) == ["db-0", "db-1", "db-2"]
    set_roles(errands, uids, "db-2", 8)
    assert errands.idle(20)
    assert roles(kube)["db-2"] == ("primary", 8) and roles(kube)["db-1"] == ("replica", 8)
    labels = kube.admin.request("GET", f"{PODS}/db-1")["metadata"]["labels"]
    assert labels["app"] == "x"


@pytest.mark.parametrize("replicas_first", [False, True])
def test_the_labels_of_the_two_roles_move_one_after_the_other(
    kube: ApiServer, errands: Errands, uids: dict[str, str], proxy: FaultProxy,
    replicas_first: bool,
) -> None:
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    before = len(proxy.seen)
    started = time.monotonic()
    errands.set_roles(("db-2", uids["db-2"]), [("db-1", uids["db-1"])], 8, replicas_first)
    assert errands.idle(20)
    patched = [path[-4:] for method, path in proxy.seen[before:] if method == "PATCH"]
    assert patched == (["db-1", "db-2"] if replicas_first else ["db-2", "db-1"])
    assert time.monotonic() - started >= APART
    assert (roles(kube)["db-1"], roles(kube)["db-2"]) == (("replica", 8), ("primary", 8))


def test_a_label_whose_change_is_not_answered_does_not_hold_up_the_other_role(
    kube: ApiServer, errands: Errands, uids: dict[str, str], proxy: FaultProxy
) -> None:
    """It may have landed, and then two pods bear the label of the primary, or none."""
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    proxy.fault(Fault("hang", "PATCH", ".*db-2"))
    started = time.monotonic()
    set_roles(errands, uids, "db-2", 8)
    until("the other role's label", lambda: roles(kube)["db-1"] == ("replica", 8), 2.0, 0.02)
    assert time.monotonic() - started < 2.0  # the call itself gives up after 3 s
    assert roles(kube)["db-2"] == ("replica", 7)
    assert errands.idle(20)
    assert roles(kube)["db-2"] == ("primary", 8)


def test_an_older_term_never_undoes_a_newer_one(
    kube: ApiServer, errands: Errands, uids: dict[str, str], agent: Api
) -> None:
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    set_roles(errands, uids, "db-2", 6)
    late = Errands(agent, "db-2", uids["db-2"])  # an agent that does not know of term 7
    try:
        set_roles(late, uids, "db-2", 6)
        assert late.idle(20) and errands.idle(20)
    finally:
        late.stop()
    assert {role for role, _ in roles(kube).values()} == {"primary", "replica"}
    assert roles(kube)["db-1"] == ("primary", 7) and roles(kube)["db-2"] == ("replica", 7)


def test_an_older_term_that_knows_old_objects_is_refused_by_the_test(
    kube: ApiServer, errands: Errands, uids: dict[str, str], agent: Api
) -> None:
    """The cache of the late agent is from before: only the patch's own tests protect here."""
    bare = {item["metadata"]["name"]: item for item in kube.admin.request("GET", PODS)["items"]}
    set_roles(errands, uids, "db-0", 5)
    assert errands.idle(20)
    old = {item["metadata"]["name"]: item for item in kube.admin.request("GET", PODS)["items"]}
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    for known in (bare, old):
        late = Errands(agent, "db-2", uids["db-2"], known=functools.partial(dict, known))
        try:
            set_roles(late, uids, "db-2", 6)
            assert late.idle(20)
        finally:
            late.stop()
        assert roles(kube)["db-1"] == ("primary", 7) and roles(kube)["db-2"] == ("replica", 7)


def test_known_objects_spare_the_read(
    kube: ApiServer, uids: dict[str, str], agent: Api, proxy: FaultProxy
) -> None:
    known = {item["metadata"]["name"]: item for item in kube.admin.request("GET", PODS)["items"]}
    errands = Errands(agent, "db-0", uids["db-0"], known=lambda: known)
    try:
        set_roles(errands, uids, "db-1", 7)
        assert errands.idle(20)
    finally:
        errands.stop()
    assert roles(kube)["db-1"] == ("primary", 7)
    assert proxy.count("GET", "/pods/") == 0 and proxy.count("PATCH", "/pods/") == 3


def test_a_pod_that_is_another_by_now_is_left_alone(
    kube: ApiServer, errands: Errands, uids: dict[str, str]
) -> None:
    kube.pod("db-1")
    kube.admin.request("DELETE", f"{PODS}/db-2", {"gracePeriodSeconds": 0})
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    assert roles(kube) == {"db-0": ("replica", 7), "db-1": (None, None)}


def test_failures_are_retried_until_done(
    kube: ApiServer, errands: Errands, uids: dict[str, str], proxy: FaultProxy
) -> None:
    proxy.fault(Fault("status", "PATCH", code=500))
    proxy.fault(Fault("lose", "PATCH"))
    proxy.fault(Fault("status", "GET", code=429, retry_after="0"))
    proxy.fault(Fault("status", "PATCH", code=409))
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(30)
    assert roles(kube)["db-1"] == ("primary", 7) and roles(kube)["db-2"] == ("replica", 7)


def test_a_caller_is_never_blocked_and_the_latest_wins(
    kube: ApiServer, errands: Errands, uids: dict[str, str], proxy: FaultProxy
) -> None:
    proxy.fault(Fault("hang", "GET", "/pods/", count=1))
    began = time.monotonic()
    for term, primary in enumerate(("db-0", "db-1", "db-2", "db-1"), start=1):
        set_roles(errands, uids, primary, term)
        errands.annotate_self("pgha.dev/status", f"term {term}")
    assert time.monotonic() - began < 1
    assert errands.idle(30)
    assert roles(kube)["db-1"] == ("primary", 4)
    assert {term for _, term in roles(kube).values()} == {4}
    notes = kube.admin.request("GET", f"{PODS}/db-0")["metadata"]["annotations"]
    assert notes["pgha.dev/status"] == "term 4"


def test_label_self_touches_only_the_own_pod(
    kube: ApiServer, errands: Errands, uids: dict[str, str]
) -> None:
    errands.label_self("replica", 3)
    assert errands.idle(20)
    assert roles(kube) == {
        "db-0": ("replica", 3), "db-1": (None, None), "db-2": (None, None),
    }  # fmt: skip


def test_annotations_come_go_and_spare_another_pod(
    kube: ApiServer, errands: Errands, uids: dict[str, str]
) -> None:
    errands.annotate_self("pgha.dev/a", "1")
    errands.annotate_self("pgha.dev/b", "2")
    assert errands.idle(20)
    errands.annotate_self("pgha.dev/a", None)
    assert errands.idle(20)
    notes = kube.admin.request("GET", f"{PODS}/db-0")["metadata"]["annotations"]
    assert notes == {"pgha.dev/b": "2"}
    kube.pod("db-0")
    errands.annotate_self("pgha.dev/c", "3")
    assert errands.idle(20)
    assert "annotations" not in kube.admin.request("GET", f"{PODS}/db-0")["metadata"]


def events(kube: ApiServer) -> list[dict[str, Any]]:
    return list(kube.admin.request("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"])


def until_events(kube: ApiServer, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while len(found := events(kube)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_events_name_their_object_and_repeats_are_one(
    kube: ApiServer, errands: Errands, uids: dict[str, str], proxy: FaultProxy
) -> None:
    proxy.fault(Fault("status", "POST", "events", code=500))
    for _ in range(5):
        errands.event("Pod", "Refused", "the data is too old", warning=True)
    errands.event("Lease", "Promoted", "db-0 is primary at term 7")
    found = {event["reason"]: event for event in until_events(kube, 2)}
    assert len(found) == 2
    pod, lease = found["Refused"], found["Promoted"]
    assert pod["involvedObject"]["uid"] == uids["db-0"] and pod["type"] == "Warning"
    assert lease["involvedObject"]["kind"] == "Lease" and lease["type"] == "Normal"
    assert pod["message"] == "the data is too old" and pod["source"]["component"] == "pgha"


def test_a_flood_of_events_is_cut_off(
    kube: ApiServer, errands: Errands, proxy: FaultProxy
) -> None:
    for number in range(200):
        errands.event("Pod", "Flood", f"sentence {number}")
    until_events(kube, 25)
    errands.annotate_self("pgha.dev/after", "1")
    assert errands.idle(20)
    assert proxy.count("POST", "events") <= 30


def test_a_hand_edited_label_is_put_right(
    kube: ApiServer, errands: Errands, uids: dict[str, str]
) -> None:
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    body = {"metadata": {"labels": {"kubedb.com/role": "primary"}}}
    kube.admin.request("PATCH", f"{PODS}/db-2", body, MERGE_PATCH)
    set_roles(errands, uids, "db-1", 7)
    assert errands.idle(20)
    assert roles(kube)["db-2"] == ("replica", 7)
