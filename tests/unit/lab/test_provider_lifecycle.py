"""Create, read, update, delete over a cluster in memory: order of calls, awaits, messages."""

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
UNSCHEDULED = {
    "metadata": {"name": "pg-0", "namespace": "demo",
                 "ownerReferences": [{"kind": "StatefulSet", "uid": "set-1"}]},
    "status": {"conditions": [{"type": "PodScheduled", "status": "False",
                               "message": "0/3 nodes are available"}]},
}  # fmt: skip


def create(bench: Bench, obj: dict[str, Any], token: str = CONFIG_MAP, **more: Any) -> Any:
    options = {"timeout": 0.0, "preview": False, **more}
    return run(bench.verbs.create(URN, token, obj, **options))


def update(bench: Bench, state: dict[str, Any], new: dict[str, Any], **more: Any) -> Any:
    options = {"timeout": 0.0, "ignore": [], "preview": False, **more}
    token = options.pop("token", CONFIG_MAP)
    return run(bench.verbs.update(URN, token, state, new, **options))


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
    with pytest.raises(Refused, match='namespaces "demo" not found'):
        create(bench, config_map("other"))


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
    assert update(bench, {}, obj, preview=True) == obj
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


def test_a_service_waits_for_endpoints_that_have_settled() -> None:
    piece = {"endpoints": [{"conditions": {"ready": False}}]}

    def later(now: float) -> None:
        piece["endpoints"][0]["conditions"]["ready"] = now > 5
        bench.cluster.lists["EndpointSlice"] = [piece]

    bench = Bench(later=later)
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": "pg"}},
               "metadata": {"name": "pg", "namespace": "demo"}}  # fmt: skip
    create(bench, service, "kubernetes:core/v1:Service")
    assert 15 <= bench.pace.now() < 17


def test_a_claim_of_a_class_that_binds_late_is_not_waited_for() -> None:
    bench = Bench()
    bench.cluster.put({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                       "metadata": {"name": "late"},
                       "volumeBindingMode": "WaitForFirstConsumer"})  # fmt: skip
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
             "metadata": {"name": "data", "namespace": "demo"},
             "spec": {"storageClassName": "late"}, "status": {"phase": "Pending"}}  # fmt: skip
    create(bench, claim, "kubernetes:core/v1:PersistentVolumeClaim")
    assert bench.pace.now() == 0


# -- update ---------------------------------------------------------------------------------------


def test_update_takes_over_what_create_made_and_applies() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    manager = state["__fieldManager"]
    after = update(bench, state, config_map(a="2"))
    assert after["data"] == {"a": "2"} and inputs_of(after) == config_map(a="2")
    assert after["__fieldManager"] == manager
    assert bench.cluster.verbs() == ["create", "get", "set_managers", "apply"]
    ((_, entries),) = [each for each in bench.cluster.asked if each[0] == "set_managers"]
    assert [(e["manager"], e["operation"]) for e in entries] == [(manager, "Apply")]
    update(bench, after, config_map(a="3"))
    assert bench.cluster.verbs().count("set_managers") == 1


def test_update_tries_again_when_the_object_changes_meanwhile() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    bench.cluster.failures["set_managers"] = [ApiError(409, "Conflict", "it was modified")]
    assert update(bench, state, config_map(a="2"))["data"] == {"a": "2"}


def test_an_ignored_field_of_another_manager_is_not_applied() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    entries = bench.cluster.objects[KEY]["metadata"]["managedFields"]
    entries.append({"manager": "hpa", "operation": "Update",
                    "fieldsV1": {"f:data": {"f:theirs": {}}}})  # fmt: skip
    update(bench, state, config_map(a="1", theirs="2", b="3"), ignore=["data.theirs"])
    assert bench.cluster.asked[-1][4]["data"] == {"a": "1", "b": "3"}


def test_a_manager_that_the_program_gave_up_owns_nothing_any_more() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    named = config_map(a="1")
    named["metadata"]["annotations"] = {"pulumi.com/patchFieldManager": "mine"}
    assert update(bench, state, named)["__fieldManager"] == "mine"
    _, manager, force, _, body = bench.cluster.asked[-1]
    assert (manager, force) == (state["__fieldManager"], False)
    assert set(body) == {"apiVersion", "kind", "metadata"}


def test_a_conflict_is_said_unless_forced() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    bench.cluster.failures["apply"] = [ApiError(409, "Conflict", 'conflict with "kubectl"')]
    with pytest.raises(Refused, match="server-side apply field conflict detected") as refusal:
        update(bench, state, config_map(a="2"))
    assert 'conflict with "kubectl"' in str(refusal.value)
    forced = config_map(a="2")
    forced["metadata"]["annotations"] = {"pulumi.com/patchForce": "true"}
    update(bench, state, forced)
    assert bench.cluster.asked[-1][2] is True


def test_an_update_of_an_object_that_is_gone_is_said() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    bench.cluster.objects.clear()
    with pytest.raises(Refused, match='ConfigMap "demo/settings" not found'):
        update(bench, state, config_map(a="2"))


def test_an_updates_await_keeps_the_new_state() -> None:
    bench = Bench()
    _, state = create(bench, stateful_set(rolled_out()), STATEFUL_SET)
    with pytest.raises(Unfinished) as unfinished:
        update(bench, state, stateful_set({**rolled_out(), "updateRevision": "pg-2"}, 3),
               token=STATEFUL_SET, timeout=5.0)  # fmt: skip
    assert str(unfinished.value).startswith(
        'the Kubernetes API server reported that "demo/pg" failed to fully initialize'
    )
    assert unfinished.value.state["status"]["updateRevision"] == "pg-2"


def test_a_preview_of_an_update_changes_nothing() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    assert update(bench, state, config_map(a="2"), preview=True)["data"] == {"a": "2"}
    assert bench.cluster.objects[KEY]["data"] == {"a": "1"}
    assert "set_managers" not in bench.cluster.verbs()
    # The run itself will own those fields, so the dry run may take them.
    assert bench.cluster.asked[-1][2:4] == (True, True)


# -- read -----------------------------------------------------------------------------------------


def read(bench: Bench, identity: str, inputs: dict[str, Any], token: str = CONFIG_MAP) -> Any:
    return run(bench.verbs.read(token, identity, {}, inputs))


def test_read_sees_drift_in_the_programs_fields_alone() -> None:
    bench = Bench()
    live = config_map(a="2", foreign="3")
    live["metadata"]["labels"] = {"foreign": "1"}
    bench.cluster.put(live)
    identity, state, inputs = read(bench, "demo/settings", config_map(a="1"))
    assert identity == "demo/settings"
    assert inputs == config_map(a="2")
    assert state["data"] == {"a": "2", "foreign": "3"}


def test_read_of_an_object_that_is_gone() -> None:
    assert read(Bench(), "demo/settings", config_map(a="1")) == ("", {}, {})
    bench = Bench()
    bench.cluster.failures["get"] = [UNREACHABLE]
    with pytest.raises(Refused, match="PULUMI_K8S_DELETE_UNREACHABLE"):
        read(bench, "demo/settings", config_map())
    bench = Bench(Settings(delete_unreachable=True))
    bench.cluster.failures["get"] = [UNREACHABLE]
    assert read(bench, "demo/settings", config_map())[0] == ""


def test_import_knows_the_id_alone() -> None:
    bench = Bench()
    live = {**stateful_set(rolled_out())}
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    bench.cluster.put(live)
    identity, state, inputs = read(bench, "demo/pg", {}, STATEFUL_SET)
    assert identity == "demo/pg" and state["status"]["readyReplicas"] == 3
    assert inputs["spec"]["replicas"] == 3 and "status" not in inputs
    assert inputs["metadata"] == {"name": "pg", "namespace": "demo"}


def test_a_refresh_of_an_object_that_is_not_ready_says_so() -> None:
    bench = Bench()
    bench.cluster.put(stateful_set({**rolled_out(), "readyReplicas": 2}))
    inputs = stateful_set()
    with pytest.raises(Unfinished) as unfinished:
        read(bench, "demo/pg", inputs, STATEFUL_SET)
    assert "2 out of 3 replicas succeeded readiness checks" in unfinished.value.reasons
    assert unfinished.value.inputs is not None
    inputs["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    assert read(bench, "demo/pg", inputs, STATEFUL_SET)[0] == "demo/pg"
    assert bench.pace.now() == 0


# -- delete ---------------------------------------------------------------------------------------


def delete(
    bench: Bench, state: dict[str, Any], token: str = CONFIG_MAP, timeout: float = 0
) -> None:
    run(bench.verbs.delete(token, "demo/settings", state, timeout))


def test_delete_is_foreground_unless_told_otherwise() -> None:
    bench = Bench()
    _, state = create(bench, config_map())
    delete(bench, state)
    assert bench.cluster.objects == {} and ("delete", "Foreground") in bench.cluster.asked
    obj = config_map()
    obj["metadata"]["annotations"] = {"pulumi.com/deletionPropagationPolicy": "orphan"}
    _, state = create(bench, obj)
    delete(bench, state)
    assert ("delete", "Orphan") in bench.cluster.asked
    delete(bench, state)  # it is gone already


def test_delete_waits_until_the_object_is_gone() -> None:
    def later(now: float) -> None:
        if now > 4:
            bench.cluster.objects.clear()

    bench = Bench(later=later)
    obj = config_map()
    obj["metadata"]["finalizers"] = ["foregroundDeletion"]
    _, state = create(bench, obj)
    delete(bench, state)
    assert bench.pace.now() > 4


def test_delete_that_hangs_says_what_holds_the_object() -> None:
    bench = Bench()
    obj = config_map()
    obj["metadata"]["finalizers"] = ["example.dev/never"]
    _, state = create(bench, obj)
    with pytest.raises(Unfinished, match="timed out waiting to be deleted") as unfinished:
        delete(bench, state, timeout=5.0)
    assert "(example.dev/never)" in unfinished.value.reasons[1]
    assert inputs_of(unfinished.value.state)["kind"] == "ConfigMap"


def test_another_object_of_the_same_name_is_not_waited_for() -> None:
    def later(now: float) -> None:
        bench.cluster.objects[KEY]["metadata"]["uid"] = "another"

    bench = Bench(later=later)
    obj = config_map()
    obj["metadata"]["finalizers"] = ["x"]
    _, state = create(bench, obj)
    delete(bench, state)
    assert KEY in bench.cluster.objects


def test_deleting_a_patch_gives_up_its_fields_alone() -> None:
    bench = Bench()
    bench.cluster.put(config_map(a="1"))
    _, state = create(bench, config_map(b="2"), PATCH)
    delete(bench, state, PATCH)
    verb, manager, force, dry_run, body = bench.cluster.asked[-1]
    assert (verb, manager, force, dry_run) == ("apply", state["__fieldManager"], False, False)
    assert body == {"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": "settings", "namespace": "demo"}}  # fmt: skip
    assert KEY in bench.cluster.objects
