"""Update, read and delete over a cluster in memory: fields and their managers, drift, the end."""

from __future__ import annotations

from typing import Any

import pytest

from lab.provider.api import ApiError
from lab.provider.checkpoint import inputs_of
from lab.provider.outcome import Refused, Settings, Unfinished
from lab.provider.planning import Planning
from lab.provider.wire import UNKNOWN
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


def create(bench: Bench, obj: dict[str, Any], token: str = CONFIG_MAP, **more: Any) -> Any:
    options = {"timeout": 0.0, "preview": False, **more}
    return run(bench.verbs.create(URN, token, obj, **options))


def update(bench: Bench, state: dict[str, Any], new: dict[str, Any], **more: Any) -> Any:
    options = {"timeout": 0.0, "ignore": [], "preview": False, **more}
    token = options.pop("token", CONFIG_MAP)
    return run(bench.verbs.update(URN, token, state, new, **options))


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


def test_a_manager_is_given_up_only_when_the_object_is_ready() -> None:
    bench = Bench()
    _, state = create(bench, stateful_set(rolled_out()), STATEFUL_SET)
    named = stateful_set({**rolled_out(), "updateRevision": "pg-2"})
    named["metadata"]["annotations"] = {"pulumi.com/patchFieldManager": "mine"}
    with pytest.raises(Unfinished):
        update(bench, state, named, token=STATEFUL_SET, timeout=5.0)
    assert [each[1] for each in bench.cluster.asked if each[0] == "apply"] == ["mine"]


def test_the_version_that_an_object_was_made_with_is_remembered() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    state["__initialApiVersion"] = "v0"
    assert update(bench, state, config_map(a="2"))["__initialApiVersion"] == "v0"
    found = run(bench.verbs.read(CONFIG_MAP, "demo/settings", state, config_map(a="2")))
    assert found[1]["__initialApiVersion"] == "v0"


def test_a_conflict_is_said_unless_forced() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    bench.cluster.failures["apply"] = [ApiError(409, "Conflict", 'conflict with "argocd"')]
    with pytest.raises(Unfinished, match="server-side apply field conflict detected") as refusal:
        update(bench, state, config_map(a="2"))
    assert 'had an apply conflict: conflict with "argocd"' in str(refusal.value)
    forced = config_map(a="2")
    forced["metadata"]["annotations"] = {"pulumi.com/patchForce": "true"}
    update(bench, state, forced)
    assert bench.cluster.asked[-1][2] is True


def test_an_update_that_is_refused_keeps_the_new_inputs_beside_the_object_as_it_is() -> None:
    """So the next preview still shows the change, and the next update tries it again."""
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    bench.cluster.failures["apply"] = [ApiError(422, "Invalid", "data: Forbidden: no")]
    with pytest.raises(Unfinished) as unfinished:
        update(bench, state, config_map(a="2"))
    text = (
        'the Kubernetes API server reported that "demo/settings" failed to fully initialize or '
        "become live: data: Forbidden: no"
    )
    assert unfinished.value.reasons == [text]
    left = unfinished.value.state
    assert left["data"] == {"a": "1"} and inputs_of(left) == config_map(a="2")
    plan = Planning(Settings(), lambda: bench.cluster).diff(CONFIG_MAP, left, config_map(a="2"), [])
    assert [change.path for change in plan.changes] == ["data.a"]


def test_a_refused_update_is_said_in_a_preview_too_but_for_a_missing_right() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    bench.cluster.failures["apply"] = [ApiError(422, "Invalid", "data: no")]
    with pytest.raises(Unfinished, match="data: no"):
        update(bench, state, config_map(a="2"), preview=True)
    bench.cluster.failures["apply"] = [ApiError(403, "Forbidden", "may not patch")]
    assert update(bench, state, config_map(a="2"), preview=True) == config_map(a="2")


def test_an_update_of_an_object_that_is_gone_is_said() -> None:
    bench = Bench()
    _, state = create(bench, config_map(a="1"))
    bench.cluster.objects.clear()
    with pytest.raises(Refused) as refusal:
        update(bench, state, config_map(a="2"))
    assert str(refusal.value) == (
        f'update of resource "{URN}" failed: ConfigMap "demo/settings" not found\n'
        'unable to get cluster state: ConfigMap "demo/settings" not found'
    )


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


def test_a_preview_of_an_update_to_unknown_values_asks_nobody() -> None:
    bench = Bench()
    obj = {**config_map(), "data": UNKNOWN}
    assert update(bench, {}, obj, preview=True) == obj
    assert bench.cluster.asked == []


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
    with pytest.raises(Unfinished, match="timed out waiting for the condition") as unfinished:
        delete(bench, state, timeout=5.0)
    assert "(example.dev/never)" in unfinished.value.reasons[1]
    assert inputs_of(unfinished.value.state)["kind"] == "ConfigMap"


def test_a_deletion_that_is_refused_is_said_in_the_servers_words() -> None:
    bench = Bench()
    _, state = create(bench, config_map())
    bench.cluster.failures["delete"] = [ApiError(403, "Forbidden", "may not delete configmaps")]
    with pytest.raises(Refused) as refusal:
        delete(bench, state)
    assert str(refusal.value) == "may not delete configmaps"


def test_a_deletion_that_can_no_longer_be_watched_keeps_the_object() -> None:
    def later(now: float) -> None:
        bench.cluster.failures["get"] = [ApiError(403, "Forbidden", "may not get configmaps")]

    bench = Bench(later=later)
    obj = config_map()
    obj["metadata"]["finalizers"] = ["example.dev/never"]
    _, state = create(bench, obj)
    with pytest.raises(Unfinished, match="may not get configmaps") as unfinished:
        delete(bench, state)
    assert unfinished.value.state["metadata"]["name"] == "settings"


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
