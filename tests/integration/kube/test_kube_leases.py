"""Lease compare-and-swap against a real API server, straight and through the fault proxy."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pgha.kube.client import (
    Api,
    ApiError,
    ApiUnreachable,
    Conflict,
    Forbidden,
    NotFound,
)
from pgha.kube.leases import LeaseApi, RawLease, micro_time
from tests.integration.kube.apiserver import NAMESPACE, ApiServer
from tests.integration.kube.faultproxy import Fault, FaultProxy

pytestmark = pytest.mark.integration

NAME = "db"
FOLDER = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"


def declared(kube: ApiServer) -> RawLease:
    """A Lease as Pulumi declares it, metadata only, with things that are not ours."""
    kube.admin.request("POST", FOLDER, {"metadata": {
        "name": NAME, "labels": {"team": "a"}, "annotations": {"other/key": "kept"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}],
    }})  # fmt: skip
    return LeaseApi(kube.admin, NAME).read(5)


def taken(lease: RawLease, holder: str = "db-0") -> RawLease:
    return replace(
        lease, holder=holder, duration=15, renew_time=micro_time(), acquire_time=micro_time(),
        transitions=1, annotations={**lease.annotations, "pgha.dev/record": "{}"},
    )  # fmt: skip


def through(proxy: FaultProxy, kube: ApiServer) -> LeaseApi:
    for kind, body in (
        ("roles", {"rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                              "verbs": ["*"]}]}),
        ("rolebindings", {
            "subjects": [{"kind": "User", "name": "agent", "apiGroup":
                          "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": "Role", "name": "agent", "apiGroup":
                        "rbac.authorization.k8s.io"}}),
    ):  # fmt: skip
        kube.admin.request("POST", f"{ROLES}/{kind}", {"metadata": {"name": "agent"}, **body})
    leases = LeaseApi(kube.agent(proxy.url), NAME)
    deadline = time.monotonic() + 20
    while True:  # RBAC is informed by watches
        try:
            leases.read(5)
            return leases
        except Forbidden:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_write_keeps_what_is_not_ours(kube: ApiServer) -> None:
    before = declared(kube)
    assert (before.holder, before.duration, before.transitions) == (None, None, 0)
    leases = LeaseApi(kube.admin, NAME)
    written = leases.write(taken(leases.read(5)), 5)
    seen = leases.read(5)
    assert seen == written
    assert seen.holder == "db-0" and seen.duration == 15 and seen.transitions == 1
    metadata = seen.object["metadata"]
    assert metadata["labels"] == {"team": "a"}
    assert metadata["ownerReferences"][0]["uid"] == "u"
    assert metadata["annotations"] == {"other/key": "kept", "pgha.dev/record": "{}"}


def test_a_release_clears_the_holder_and_removes_own_annotations(kube: ApiServer) -> None:
    declared(kube)
    leases = LeaseApi(kube.admin, NAME)
    held = leases.write(taken(leases.read(5)), 5)
    freed = leases.write(replace(held, holder=None, annotations={}), 5)
    assert freed.holder is None and freed.duration == 15
    assert freed.annotations == {"other/key": "kept"}


def test_only_the_first_of_two_writers_wins(kube: ApiServer) -> None:
    lease = declared(kube)
    leases = LeaseApi(kube.admin, NAME)
    leases.write(taken(lease, "db-0"), 5)
    with pytest.raises(Conflict) as caught:
        leases.write(taken(lease, "db-1"), 5)
    assert not caught.value.ambiguous
    assert leases.read(5).holder == "db-0"


def test_a_lease_made_again_is_not_overwritten(kube: ApiServer) -> None:
    lease = declared(kube)
    leases = LeaseApi(kube.admin, NAME)
    kube.admin.request("DELETE", leases.path)
    with pytest.raises(Conflict):
        leases.write(taken(lease), 5)
    with pytest.raises(NotFound):
        leases.read(5)
    new = leases.create(taken(lease), 5)
    assert new.uid != lease.uid
    assert new.object["metadata"]["labels"] == {"team": "a"}
    assert new.object["metadata"]["ownerReferences"][0]["uid"] == "u"
    with pytest.raises(Conflict):
        leases.write(taken(lease), 5)
    with pytest.raises(Conflict):
        leases.create(taken(lease, "db-1"), 5)
    assert leases.read(5).holder == "db-0"


def test_a_write_whose_answer_was_lost_has_landed(kube: ApiServer, proxy: FaultProxy) -> None:
    declared(kube)
    leases = through(proxy, kube)
    lease = leases.read(5)
    proxy.fault(Fault("lose", "PUT"))
    with pytest.raises(ApiUnreachable) as caught:
        leases.write(taken(lease), 5)
    assert caught.value.ambiguous
    assert proxy.count("PUT", "leases") == 1  # nobody sent it twice
    assert leases.read(5).holder == "db-0"


def test_a_write_whose_answer_broke_off_is_ambiguous(kube: ApiServer, proxy: FaultProxy) -> None:
    declared(kube)
    leases = through(proxy, kube)
    lease = leases.read(5)
    proxy.fault(Fault("break", "PUT"))
    with pytest.raises(ApiUnreachable) as caught:
        leases.write(taken(lease), 5)
    assert caught.value.ambiguous
    assert leases.read(5).holder == "db-0"


def test_a_hanging_server_costs_the_timeout_and_no_more(
    kube: ApiServer, proxy: FaultProxy
) -> None:
    declared(kube)
    leases = through(proxy, kube)
    lease = leases.read(5)
    proxy.fault(Fault("hang", "PUT"))
    began = time.monotonic()
    with pytest.raises(ApiUnreachable) as caught:
        leases.write(taken(lease), 0.3)
    assert caught.value.ambiguous
    assert 0.25 < time.monotonic() - began < 10
    assert leases.read(5).holder is None  # and the next call is not disturbed


def test_an_answer_that_trickles_in_costs_the_timeout(
    kube: ApiServer, proxy: FaultProxy
) -> None:
    declared(kube)
    leases = through(proxy, kube)
    lease = leases.read(5)
    proxy.fault(Fault("trickle", "PUT"))
    began = time.monotonic()
    with pytest.raises(ApiUnreachable) as caught:
        leases.write(taken(lease), 0.5)
    assert caught.value.ambiguous
    assert time.monotonic() - began < 20
    assert leases.read(5).holder == "db-0"


@pytest.mark.parametrize(
    ("code", "ambiguous"), [(409, False), (429, False), (500, True), (504, True)]
)
def test_each_refusal_says_whether_it_may_have_landed(
    kube: ApiServer, proxy: FaultProxy, code: int, ambiguous: bool
) -> None:
    declared(kube)
    leases = through(proxy, kube)
    proxy.fault(Fault("status", "PUT", code=code, retry_after="3"))
    with pytest.raises(ApiError) as caught:
        leases.write(taken(leases.read(5)), 5)
    assert caught.value.status == code
    assert caught.value.ambiguous is ambiguous
    assert caught.value.retry_after == 3.0


def test_a_connection_that_was_never_made_is_not_ambiguous(kube: ApiServer) -> None:
    lease = declared(kube)
    api = Api("https://127.0.0.1:9", lambda: "x", kube.ca, NAMESPACE)
    with pytest.raises(ApiUnreachable) as caught:
        LeaseApi(api, NAME).write(taken(lease), 1)
    assert not caught.value.ambiguous
    assert "https://127.0.0.1:9" in str(caught.value)


def test_a_missing_right_is_named_with_its_remedy(kube: ApiServer) -> None:
    lease = declared(kube)
    with pytest.raises(Forbidden) as caught:
        LeaseApi(kube.agent(), NAME).write(taken(lease), 5)
    text = str(caught.value)
    assert 'update leases "db"' in text and "coordination.k8s.io" in text and "Role" in text
    with pytest.raises(Forbidden) as caught:
        LeaseApi(kube.agent(), NAME).create(taken(lease), 5)
    assert "create leases:" in str(caught.value)


def test_a_token_that_is_not_accepted_is_said_so(kube: ApiServer) -> None:
    api = Api(kube.url, lambda: "wrong", kube.ca, NAMESPACE)
    with pytest.raises(Forbidden, match="does not accept this agent's token"):
        LeaseApi(api, NAME).read(5)


def test_the_wrong_ca_is_no_answer(kube: ApiServer) -> None:
    api = Api(kube.url, lambda: "x", None, NAMESPACE)
    with pytest.raises(ApiUnreachable, match="certificate verify failed"):
        LeaseApi(api, NAME).read(5)


def test_other_traffic_does_not_delay_a_renewal(kube: ApiServer, proxy: FaultProxy) -> None:
    import threading

    declared(kube)
    leases = through(proxy, kube)
    api = leases._api
    proxy.fault(Fault("hang", "GET", "/pods", count=6))
    threads = [
        threading.Thread(target=_quietly, args=(api, f"/api/v1/namespaces/{NAMESPACE}/pods"))
        for _ in range(6)
    ]
    for each in threads:
        each.start()
    assert leases.write(taken(leases.read(2)), 2).holder == "db-0"
    assert any(each.is_alive() for each in threads)  # they do hang
    proxy.released.set()
    for each in threads:
        each.join(30)


def _quietly(api: Api, path: str) -> None:
    try:
        api.request("GET", path, timeout=20)
    except ApiError:
        pass  # its outcome is not what is tested


def test_the_api_server_restarted(kube: ApiServer) -> None:
    """A kept connection that died meanwhile is replaced; nothing is stuck."""
    lease = declared(kube)
    leases = LeaseApi(kube.admin, NAME)
    kube.stop_api()
    with pytest.raises(ApiUnreachable):
        leases.read(2)
    kube.start_api()
    assert leases.write(taken(lease), 10).holder == "db-0"
