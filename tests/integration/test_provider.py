"""The stand-in provider under the real engine against the lab's real API server.

With LAB_PROVIDER these run against the official provider too: nothing here is the stand-in's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Lab
from tests.integration.provider_project import Project
from tests.support.kube import LEASES, STATEFUL_SETS, Kube
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SPACE = "provider-tests"
ROLES = "rbac.authorization.k8s.io/v1/roles"


@pytest.fixture(scope="module")
def space(kube: Kube) -> Iterator[str]:
    """A namespace of these tests alone."""

    def gone() -> bool:
        return kube.get(f"/api/v1/namespaces/{SPACE}") is None

    kube.delete(f"/api/v1/namespaces/{SPACE}")
    until("the namespace of an earlier run gone", gone, 60)
    kube.create("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    yield SPACE
    kube.delete(f"/api/v1/namespaces/{SPACE}")


@pytest.fixture
def project(lab: Lab, space: str, tmp_path: Path) -> Iterator[Project]:
    made = Project(lab.layout.cache.root, lab.kubeconfig, tmp_path / "objects")
    yield made
    made.declare()
    made.destroy()


def declared(type_: str, name: str, **given: Any) -> dict[str, Any]:
    """A resource whose object bears its name, as a line of resources.json."""
    annotations = given.pop("annotations", None)
    options, uids = given.pop("options", {}), given.pop("uids", {})
    metadata = {"name": name, "namespace": SPACE,
                **({"annotations": annotations} if annotations else {})}  # fmt: skip
    args = {"metadata": metadata, **given}
    return {"type": type_, "name": name, "args": args, "options": options, "uids": uids}


def config_map(name: str, **given: Any) -> dict[str, Any]:
    return declared("core.v1.ConfigMap", name, **given)


def role(name: str, *verbs: str, **given: Any) -> dict[str, Any]:
    rules = [{"api_groups": [""], "resources": ["pods"], "verbs": list(verbs)}]
    return declared("rbac.v1.Role", name, rules=rules, **given)


def pods(name: str, image: str = "docker.io/lab/pause:1", replicas: int = 1, **given: Any) -> Any:
    container = {"name": "c", "image": image, "imagePullPolicy": "Never"}
    labels = {"app": name}
    spec = {
        "serviceName": name, "replicas": replicas, "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 1, "containers": [container]}},
    }  # fmt: skip
    return declared("apps.v1.StatefulSet", name, spec=spec, **given)


def test_an_object_is_made_changed_and_ended(project: Project, kube: Kube) -> None:
    path = kube.path(SPACE, ROLES, "life")
    project.declare(role("life", "get"))
    project.up()
    first = kube.get(path)
    assert first is not None and project.drift() == ""
    project.declare(role("life", "get", "list"))
    project.up()
    second = kube.get(path)
    assert second is not None and second["rules"][0]["verbs"] == ["get", "list"]
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert project.drift() == ""
    project.declare()
    project.up()
    assert kube.get(path) is None


def test_a_field_that_the_program_no_longer_sets_is_removed(project: Project, kube: Kube) -> None:
    path = kube.path(SPACE, "serviceaccounts", "fields")
    both = {"pgha.dev/a": "1", "pgha.dev/b": "2"}
    project.declare(declared("core.v1.ServiceAccount", "fields", annotations=both))
    project.up()
    kube.patch(path, {"metadata": {"annotations": {"foreign": "3"}}})
    project.declare(declared("core.v1.ServiceAccount", "fields", annotations={"pgha.dev/a": "1"}))
    project.up()
    found = kube.get(path)
    assert found is not None
    assert found["metadata"]["annotations"] == {"pgha.dev/a": "1", "foreign": "3"}


def test_an_object_that_exists_is_refused_and_left_alone(project: Project, kube: Kube) -> None:
    maps = kube.path(SPACE, "configmaps")
    kube.create(maps, {"metadata": {"name": "taken"}, "data": {"a": "theirs"}})
    project.declare(config_map("taken", data={"a": "mine"}))
    text = project.up_fails()
    assert "was not successfully created by the Kubernetes API server" in text
    assert 'configmaps "taken" already exists' in text
    found = kube.get(f"{maps}/taken")
    assert found is not None and found["data"] == {"a": "theirs"}
    kube.delete(f"{maps}/taken")


def test_what_others_set_is_no_drift_and_survives(project: Project, kube: Kube) -> None:
    """A Lease declared with metadata alone, as the components do."""
    path = kube.path(SPACE, LEASES, "election")
    lease = declared("coordination.v1.Lease", "election", options={"ignore_changes": ["spec"]})
    project.declare(lease)
    project.up()
    kube.patch(path, {
        "metadata": {"annotations": {"pgha.dev/record": "{}"}, "labels": {"foreign": "1"}},
        "spec": {"holderIdentity": "pg-1", "leaseDurationSeconds": 15},
    })  # fmt: skip
    assert project.drift() == ""
    lease["args"]["metadata"]["labels"] = {"app": "pg"}
    project.declare(lease)
    project.up("--refresh")
    found = kube.get(path)
    assert found is not None and found["spec"]["holderIdentity"] == "pg-1"
    assert found["metadata"]["annotations"] == {"pgha.dev/record": "{}"}
    assert found["metadata"]["labels"] == {"foreign": "1", "app": "pg"}
    assert project.drift() == ""


def test_drift_shows_conflicts_and_is_mended_by_force(project: Project, kube: Kube) -> None:
    path = kube.path(SPACE, ROLES, "drifted")
    project.declare(role("drifted", "get", "list"))
    project.up()
    changed = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    kube.patch(path, {"rules": changed})
    drift = project.drift()
    assert "rules" in drift and "list" in drift, drift
    text = project.up_fails("--refresh")
    assert "conflict" in text, text
    project.declare(
        role("drifted", "get", "list", annotations={"pulumi.com/patchForce": "true"})
    )
    project.up("--refresh")
    found = kube.get(path)
    assert found is not None and found["rules"][0]["verbs"] == ["get", "list"]
    assert project.drift() == ""


def test_what_kubectl_edit_changed_is_the_programs_again(project: Project, kube: Kube) -> None:
    path = kube.path(SPACE, ROLES, "edited")
    project.declare(role("edited", "get", "list"))
    project.up()
    changed = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    kube.patch(f"{path}?fieldManager=kubectl-edit", {"rules": changed})
    assert project.drift() != ""
    project.up("--refresh")
    found = kube.get(path)
    assert found is not None and found["rules"][0]["verbs"] == ["get", "list"]
    managers = {each["manager"] for each in found["metadata"]["managedFields"]}
    assert "kubectl-edit" not in managers
    assert project.drift() == ""


def test_an_update_that_is_refused_shows_again(project: Project) -> None:
    def service(port: int) -> dict[str, Any]:
        spec = {"clusterIP": "None", "ports": [{"port": port}]}
        return declared("core.v1.Service", "refused", spec=spec)

    project.declare(service(80))
    project.up()
    project.declare(service(99999))
    text = project.up_fails()
    assert f'"{SPACE}/refused" failed to fully initialize or become live: Service' in text, text
    preview = project.run("preview", "--diff")
    assert "99999" in preview.text, preview.text
    project.declare(service(80))
    project.up()
    assert project.drift() == ""


def test_quantities_and_empty_values_are_no_drift(project: Project, kube: Kube) -> None:
    """podTemplate.spec passes on what a user writes."""

    def members(memory: str, cpu: float) -> dict[str, Any]:
        made = pods("worded", annotations={"pulumi.com/skipAwait": "true"})
        spec = made["args"]["spec"]["template"]["spec"]
        spec["containers"][0]["resources"] = {"limits": {"memory": memory, "cpu": cpu}}
        spec.update(hostNetwork=False, tolerations=[])
        return dict(made)

    for memory, cpu, kept in (("16384Ki", 0.5, ("16Mi", "500m")), ("32768Ki", 1, ("32Mi", "1"))):
        project.declare(members(memory, cpu))
        project.up()
        assert project.drift() == ""
        found = kube.get(kube.path(SPACE, STATEFUL_SETS, "worded"))
        assert found is not None
        (container,) = found["spec"]["template"]["spec"]["containers"]
        assert container["resources"] == {"limits": {"memory": kept[0], "cpu": kept[1]}}


def test_replacement_of_a_named_and_of_an_autonamed_object(project: Project, kube: Kube) -> None:
    """A ConfigMap whose data changed is another one, and so is what was made of it."""
    maps = kube.path(SPACE, "configmaps")

    def declare(value: str) -> None:
        unnamed = {"type": "core.v1.ConfigMap", "name": "unnamed", "uids": {"uid": "named"},
                   "args": {"metadata": {"namespace": SPACE}, "data": {}}}  # fmt: skip
        project.declare(config_map("named", data={"settings.json": value}), unnamed)

    declare("1")
    preview = project.run("preview")
    assert preview, preview.text
    project.up()
    first, names = kube.get(f"{maps}/named"), project.names()
    assert first is not None and names["unnamed"].startswith("unnamed-")
    made = kube.get(f"{maps}/{names['unnamed']}")
    assert made is not None and made["data"] == {"uid": first["metadata"]["uid"]}
    declare("2")
    preview = project.run("preview", "--diff")
    assert preview and "replace" in preview.text, preview.text
    project.up()
    second, after = kube.get(f"{maps}/named"), project.names()
    assert second is not None and second["data"] == {"settings.json": "2"}
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    remade = kube.get(f"{maps}/{after['unnamed']}")
    assert remade is not None and remade["data"] == {"uid": second["metadata"]["uid"]}
    assert after["unnamed"] != names["unnamed"]
    assert kube.get(f"{maps}/{names['unnamed']}") is None
    assert project.drift() == ""


def test_a_secret_is_never_in_the_clear(project: Project, kube: Kube) -> None:
    project.declare(declared(
        "core.v1.Secret", "credentials", type="Opaque", string_data={"password": "hunter2"}
    ))  # fmt: skip
    up = project.up()
    found = kube.get(kube.path(SPACE, "secrets", "credentials"))
    assert found is not None and found["data"] == {"password": "aHVudGVyMg=="}
    state = project.state("credentials")
    for text in (up, json.dumps(state), project.run("preview", "--refresh", "--diff").text):
        assert "hunter2" not in text and "aHVudGVyMg" not in text
    assert "ciphertext" in json.dumps(state["outputs"]["data"])
    for file in (project.folder / "state").rglob("*.json"):
        assert "aHVudGVyMg" not in file.read_text(), file
    assert project.drift() == ""


def test_an_object_is_imported_by_its_id(project: Project, kube: Kube) -> None:
    maps = kube.path(SPACE, "configmaps")
    made = kube.create(maps, {"metadata": {"name": "found"}, "data": {"a": "1"}})
    project.declare(
        config_map("found", data={"a": "1"}, options={"import_": f"{SPACE}/found"})
    )
    project.up()
    assert project.state("found")["outputs"]["metadata"]["uid"] == made["metadata"]["uid"]
    project.declare(config_map("found", data={"a": "1"}, options={"retain_on_delete": True}))
    project.up()
    project.declare()
    project.up()
    assert kube.get(f"{maps}/found") is not None
    kube.delete(f"{maps}/found")


def test_a_patch_sets_its_fields_and_gives_them_up(project: Project, kube: Kube) -> None:
    maps = kube.path(SPACE, "configmaps")
    kube.create(maps, {"metadata": {"name": "patched"}, "data": {"theirs": "1"}})
    project.declare(declared("core.v1.ConfigMapPatch", "patched", data={"mine": "2"}))
    project.up()
    found = kube.get(f"{maps}/patched")
    assert found is not None and found["data"] == {"theirs": "1", "mine": "2"}
    assert project.drift() == ""
    project.declare()
    project.up()
    found = kube.get(f"{maps}/patched")
    assert found is not None and found["data"] == {"theirs": "1"}
    kube.delete(f"{maps}/patched")


def test_without_an_api_a_preview_works_and_an_update_says_why_not(
    project: Project, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    nowhere.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "nowhere", "users": [],
        "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere"}}],
        "clusters": [{"name": "nowhere", "cluster": {"server": "https://127.0.0.1:1"}}],
    }))  # fmt: skip
    project.declare(config_map("far", data={"a": "1"}))
    preview = project.run("preview", KUBECONFIG=str(nowhere))
    assert preview and "2 to create" in preview.text, preview.text
    text = project.up_fails(KUBECONFIG=str(nowhere))
    assert "configured Kubernetes cluster is unreachable" in text
    assert "127.0.0.1:1" in text


def test_up_waits_for_pods_endpoints_and_claims(project: Project, kube: Kube) -> None:
    service = declared(
        "core.v1.Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]}
    )
    headless = declared(
        "core.v1.Service", "nobody",
        spec={"clusterIP": "None", "selector": {"app": "nobody"}, "ports": [{"port": 80}]},
    )  # fmt: skip
    claim = declared("core.v1.PersistentVolumeClaim", "disk", spec={
        "accessModes": ["ReadWriteOnce"], "storageClassName": "standard",
        "resources": {"requests": {"storage": "307200Ki"}}})  # fmt: skip
    project.declare(pods("web"), service, headless, claim)
    project.up()
    made = kube.get(kube.path(SPACE, STATEFUL_SETS, "web"))
    assert made is not None and made["status"]["readyReplicas"] == 1
    bound = kube.get(kube.path(SPACE, "persistentvolumeclaims", "disk"))
    assert bound is not None and bound["status"]["phase"] == "Bound"
    assert project.drift() == ""
    project.declare(pods("web", replicas=2), service, headless, claim)
    project.up()
    grown = kube.get(kube.path(SPACE, STATEFUL_SETS, "web"))
    assert grown is not None and grown["status"]["readyReplicas"] == 2
    assert grown["metadata"]["uid"] == made["metadata"]["uid"]
    project.declare()
    project.up()
    left = kube.list(kube.path(SPACE, "pods"), labelSelector="app=web")
    assert left == []


def test_an_await_that_fails_names_the_pods_and_keeps_the_object(
    project: Project, kube: Kube
) -> None:
    path = kube.path(SPACE, STATEFUL_SETS, "broken")
    broken = pods("broken", "docker.io/lab/none:1", options={"custom_timeouts": {"create": "8s"}})
    project.declare(broken)
    text = project.up_fails()
    assert "was successfully created, but the Kubernetes API server reported that it failed" in text
    assert "'broken' timed out waiting to be Ready" in text
    assert "0 out of 1 replicas succeeded readiness checks" in text
    assert f"[Pod {SPACE}/broken-0]: containers with unready status: [c]" in text
    assert "ErrImageNeverPull" in text
    assert kube.get(path) is not None
    skipped = pods("broken", "docker.io/lab/none:1", annotations={"pulumi.com/skipAwait": "true"})
    project.declare(skipped)
    project.up()
    assert project.drift() == ""
    project.destroy()
    # skipAwait holds for the deletion of this kind too.
    until("the StatefulSet gone", lambda: kube.get(path) is None, 30)


def test_an_interrupted_await_ends_soon_and_says_what_was_missing(
    project: Project, kube: Kube
) -> None:
    path = kube.path(SPACE, "pods", "slow-0")
    project.declare(pods("slow", "docker.io/lab/none:1"))
    text = project.up_interrupted(lambda: kube.get(path))
    assert 'Resource operation was cancelled for "slow"' in text, text
    assert "0 out of 1 replicas succeeded readiness checks" in text
    project.destroy()
    assert kube.get(kube.path(SPACE, STATEFUL_SETS, "slow")) is None
