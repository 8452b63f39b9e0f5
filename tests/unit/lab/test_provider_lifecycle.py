"""Create over a cluster in memory: order of calls, awaits, previews, messages."""

from __future__ import annotations

from typing import Any

import pytest

from lab.provider.api import ApiError
from lab.provider.checkpoint import inputs_of
from lab.provider.outcome import Refused, Settings, Unfinished
from lab.provider.wire import UNKNOWN, Secret
from tests.unit.lab.provider_cluster import (
    UNREACHABLE,
    URN,
    Bench,
    config_map,
    rolled_out,
    run,
    stateful_set,
)

pytestmark = pytest.mark.unit

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
STATEFUL_SET = "kubernetes:apps/v1:StatefulSet"
PATCH = f"{CONFIG_MAP}Patch"
KEY = ("ConfigMap", "demo", "settings")
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": "pg"}},
    "metadata": {"name": "pg", "namespace": "demo"},
}  # fmt: skip
UNSCHEDULED = {
    "metadata": {"name": "pg-0", "namespace": "demo",
                 "ownerReferences": [{"kind": "StatefulSet", "uid": "set-1"}]},
    "status": {"conditions": [{"type": "PodScheduled", "status": "False",
                               "message": "0/3 nodes are available"}]},
}  # fmt: skip


def create(bench: Bench, obj: dict[str, Any], token: str = CONFIG_MAP, **more: Any) -> Any:
    options = {"timeout": 0.0, "preview": False, **more}
    return run(bench.verbs.create(URN, token, obj, **options))


def test_create_makes_the_object_and_keeps_its_inputs() -> None:
    bench = Bench()
    obj = config_map(a="1")
    obj["data"]["a"] = Secret("1")
    identity, state = create(bench, obj)
    assert identity == "demo/settings"
    assert bench.cluster.objects[KEY]["data"] == {"a": "1"}
    assert state["data"]["a"] == Secret("1") and state["metadata"]["uid"] == "uid-1"
    assert inputs_of(state) == config_map(a="1")
    assert state["__fieldManager"].startswith("pulumi-kubernetes-")
    assert bench.cluster.asked == [("create", "pulumi-kubernetes", False)]


def test_create_refuses_an_object_that_exists() -> None:
    bench = Bench()
    bench.cluster.put(config_map(a="1"))
    with pytest.raises(Refused) as refusal:
        create(bench, config_map(a="2"))
    assert f'resource "{URN}" was not successfully created by the Kubernetes API server' in str(
        refusal.value
    )
    assert 'configmaps "settings" already exists' in str(refusal.value)
    assert bench.cluster.objects[KEY]["data"] == {"a": "1"}


def test_create_takes_an_object_that_exists_when_configured_so() -> None:
    bench = Bench(Settings(upsert=True))
    bench.cluster.put(config_map(a="1"))
    create(bench, config_map(a="2"))
    assert bench.cluster.objects[KEY]["data"] == {"a": "2"}
    assert bench.cluster.asked[0][0] == "apply" and bench.cluster.asked[0][2] is False


def test_a_patch_is_applied_with_the_programs_manager_and_force() -> None:
    bench = Bench()
    bench.cluster.put(config_map(a="1"))
    obj = config_map(a="2")
    obj["metadata"]["annotations"] = {
        "pulumi.com/patchForce": "true", "pulumi.com/patchFieldManager": "pgha-claims"
    }  # fmt: skip
    create(bench, obj, PATCH)
    assert bench.cluster.asked[0][:3] == ("apply", "pgha-claims", True)


def test_create_waits_for_a_namespace_that_is_being_made() -> None:
    bench = Bench()
    gone = ApiError(404, "NotFound", 'namespaces "demo" not found', "namespaces")
    bench.cluster.failures["create"] = [gone, gone]
    create(bench, config_map(a="1"))
    assert KEY in bench.cluster.objects
    assert bench.pace.now() > 0
    waited = bench.pace.now()
    bench.cluster.failures["create"] = [gone] * 2
    assert create(bench, config_map("later"), preview=True)[0] == ""
    assert bench.pace.now() == waited and len(bench.cluster.failures["create"]) == 1
    bench.cluster.failures["create"] = [gone] * 9
    started = bench.pace.now()
    with pytest.raises(Refused, match='namespaces "demo" not found'):
        create(bench, config_map("other"))
    # Six attempts, the pauses between them twice as long each time.
    assert bench.pace.now() - started == 1 + 2 + 4 + 8 + 16
    assert bench.said[-1] == 'Retry #4; creation failed: namespaces "demo" not found'


def test_a_dry_run_of_what_will_be_replaced_is_made_under_another_name() -> None:
    bench = Bench(Settings(upsert=True))
    immutable = ApiError(422, "Invalid", 'Secret "s" is invalid: type: field is immutable')
    bench.cluster.failures["apply"] = [immutable]
    _, state = create(bench, config_map(a="1"), preview=True)
    assert state["data"] == {"a": "1"}
    assert [each[4]["metadata"]["name"] == "settings" for each in bench.cluster.asked] == [
        True, False
    ]  # fmt: skip
    bench.cluster.failures["apply"] = [immutable]
    with pytest.raises(Refused, match="field is immutable"):
        create(bench, config_map(a="1"))


def test_a_missing_kind_is_said() -> None:
    bench = Bench()
    bench.cluster.unknown.add("PodMonitor")
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor",
               "metadata": {"name": "pg", "namespace": "demo"}}  # fmt: skip
    token = "kubernetes:monitoring.coreos.com/v1:PodMonitor"
    with pytest.raises(Refused, match="Verify that any required CRDs have been created"):
        create(bench, monitor, token)
    assert create(bench, monitor, token, preview=True) == ("", monitor)


def test_an_unreachable_cluster_is_said_and_does_not_hinder_a_preview() -> None:
    bench = Bench()
    bench.cluster.failures["create"] = [UNREACHABLE] * 2
    with pytest.raises(Refused, match="configured Kubernetes cluster is unreachable: no answer"):
        create(bench, config_map())
    assert create(bench, config_map(a="1"), preview=True) == ("", config_map(a="1"))


def test_a_preview_with_unknown_values_asks_nobody() -> None:
    bench = Bench()
    obj = config_map()
    obj["data"] = {"a": UNKNOWN}
    assert create(bench, obj, preview=True) == ("", obj)
    assert create(bench, config_map(), PATCH, preview=True) == ("", config_map())
    assert bench.cluster.asked == []


def test_a_preview_is_a_dry_run() -> None:
    bench = Bench()
    identity, state = create(bench, config_map(a="1"), preview=True)
    assert identity == "" and "status" not in state and bench.cluster.objects == {}
    bench.cluster.put(config_map(a="0"))
    assert create(bench, config_map(a="1"), preview=True) == ("", config_map(a="1"))
    bench.cluster.failures["create"] = [ApiError(422, "Invalid", "data: no")]
    with pytest.raises(Refused, match="data: no"):
        create(bench, config_map(), preview=True)


def test_create_waits_until_all_replicas_are_ready() -> None:
    def later(now: float) -> None:
        if now > 3:
            bench.cluster.objects["StatefulSet", "demo", "pg"]["status"] = rolled_out()

    bench = Bench(later=later)
    _, state = create(bench, stateful_set(), STATEFUL_SET)
    assert state["status"]["readyReplicas"] == 3
    assert 3 < bench.pace.now() < 5
    assert bench.said


def test_an_await_that_times_out_keeps_the_object_and_names_the_pods() -> None:
    bench = Bench()
    bench.cluster.lists["Pod"] = [UNSCHEDULED]
    waiting = stateful_set({**rolled_out(), "readyReplicas": 1})
    with pytest.raises(Unfinished) as unfinished:
        create(bench, waiting, STATEFUL_SET, timeout=20.0)
    assert 20 <= bench.pace.now() < 21
    assert unfinished.value.identity == "demo/pg"
    assert unfinished.value.state["status"]["readyReplicas"] == 1
    first, *rest = unfinished.value.reasons
    assert "was successfully created, but the Kubernetes API server reported that it" in first
    assert "'pg' timed out waiting to be Ready" in first
    assert rest == [
        "1 out of 3 replicas succeeded readiness checks",
        "[Pod demo/pg-0]: 0/3 nodes are available",
    ]


def test_the_annotations_of_a_wait() -> None:
    bench = Bench()
    obj = stateful_set()
    obj["metadata"]["annotations"] = {"pulumi.com/timeoutSeconds": "7"}
    with pytest.raises(Unfinished):
        create(bench, obj, STATEFUL_SET)
    assert 7 <= bench.pace.now() < 8
    bench = Bench()
    obj["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    create(bench, obj, STATEFUL_SET)
    assert bench.pace.now() == 0


def test_cancel_ends_an_await_and_says_what_was_missing() -> None:
    def later(now: float) -> None:
        if now > 2:
            bench.pace.cancel()

    bench = Bench(later=later)
    bench.cluster.lists["Pod"] = [UNSCHEDULED]
    with pytest.raises(Unfinished, match='Resource operation was cancelled for "pg"') as cancelled:
        create(bench, stateful_set(), STATEFUL_SET)
    assert bench.pace.now() < 4
    assert cancelled.value.reasons[-1] == "[Pod demo/pg-0]: 0/3 nodes are available"


def test_an_await_outlasts_an_api_that_is_away() -> None:
    def later(now: float) -> None:
        if now < 30:
            bench.cluster.failures["get"] = [UNREACHABLE]
        else:
            bench.cluster.objects["StatefulSet", "demo", "pg"]["status"] = rolled_out()

    bench = Bench(later=later)
    create(bench, stateful_set(), STATEFUL_SET)
    assert bench.pace.now() > 30

    def listed(now: float) -> None:
        bench.cluster.failures["list"] = [UNREACHABLE] if now < 30 else []

    bench = Bench(later=listed)
    bench.cluster.failures["list"] = [ApiError(503, "ServiceUnavailable", "no leader")]
    create(bench, SERVICE, "kubernetes:core/v1:Service")
    assert bench.pace.now() > 30


def test_an_await_that_may_no_longer_look_keeps_the_object() -> None:
    """Its object is there: an error that left without it would make the next run create it."""

    def later(now: float) -> None:
        bench.cluster.failures["get"] = [ApiError(403, "Forbidden", "may not get statefulsets")]

    bench = Bench(later=later)
    with pytest.raises(Unfinished, match="may not get statefulsets") as unfinished:
        create(bench, stateful_set(), STATEFUL_SET)
    assert unfinished.value.identity == "demo/pg"
    assert unfinished.value.state["metadata"]["name"] == "pg"
    bench = Bench()
    bench.cluster.failures["list"] = [ApiError(403, "Forbidden", "may not list endpointslices")]
    with pytest.raises(Unfinished, match="may not list endpointslices"):
        create(bench, SERVICE, "kubernetes:core/v1:Service")


def test_a_service_that_had_no_time_to_settle_is_ready_when_time_is_up() -> None:
    bench = Bench()
    bench.cluster.lists["EndpointSlice"] = [{"endpoints": [{"conditions": {"ready": True}}]}]
    create(bench, SERVICE, "kubernetes:core/v1:Service", timeout=4.0)
    assert bench.pace.now() < 5
    bench.cluster.lists["EndpointSlice"] = [{"endpoints": [{"conditions": {"ready": False}}]}]
    bench.cluster.objects.clear()
    with pytest.raises(Unfinished, match="'pg' timed out waiting to be Ready"):
        create(bench, SERVICE, "kubernetes:core/v1:Service", timeout=4.0)


def test_an_await_of_the_programs_own() -> None:
    def later(now: float) -> None:
        if now > 3:
            bench.cluster.objects[KEY]["data"]["a"] = "done"

    bench = Bench(later=later)
    obj = config_map(a="1")
    obj["metadata"]["annotations"] = {"pulumi.com/waitFor": "jsonpath={.data.a}=done"}
    create(bench, obj)
    assert 3 < bench.pace.now() < 4
    obj["metadata"] = {**obj["metadata"], "name": "other",
                       "annotations": {"pulumi.com/waitFor": "someday"}}  # fmt: skip
    with pytest.raises(Unfinished, match='expected a "jsonpath=" or "condition=" prefix'):
        create(bench, obj)
    obj["metadata"] = {**obj["metadata"], "name": "third",
                       "annotations": {"pulumi.com/waitFor": "jsonpath={.data.b}"}}  # fmt: skip
    with pytest.raises(Unfinished, match="timed out waiting for the condition"):
        create(bench, obj, timeout=3.0)


def test_a_service_waits_for_endpoints_that_have_settled() -> None:
    piece = {"endpoints": [{"conditions": {"ready": False}}]}

    def later(now: float) -> None:
        piece["endpoints"][0]["conditions"]["ready"] = now > 5
        bench.cluster.lists["EndpointSlice"] = [piece]

    bench = Bench(later=later)
    create(bench, SERVICE, "kubernetes:core/v1:Service")
    assert 15 <= bench.pace.now() < 17


CLAIM: dict[str, Any] = {
    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "demo"},
    "spec": {"storageClassName": "late"}, "status": {"phase": "Pending"},
}  # fmt: skip


def test_a_claim_of_a_class_that_binds_late_is_not_waited_for() -> None:
    bench = Bench()
    bench.cluster.put({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                       "metadata": {"name": "late"},
                       "volumeBindingMode": "WaitForFirstConsumer"})  # fmt: skip
    create(bench, CLAIM, "kubernetes:core/v1:PersistentVolumeClaim")
    assert bench.pace.now() == 0


def test_a_claim_whose_class_may_not_be_read_is_waited_for() -> None:
    bench = Bench()
    bench.cluster.failures["get"] = [ApiError(403, "Forbidden", "may not get storageclasses")]
    with pytest.raises(Unfinished, match="Timeout occurred polling for 'data'"):
        create(bench, CLAIM, "kubernetes:core/v1:PersistentVolumeClaim", timeout=5.0)
    assert 300 <= bench.pace.now() < 301
