"""What cannot be done is refused in one sentence, by the real CLI, before anything is created."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster import Lab
from lab.images import versions
from tests.support.kube import CLAIMS, LEASES, STATEFUL_SETS, Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.program import Program, Stack

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-refusals"


@pytest.fixture(scope="module")
def namespace(kube: Kube, program: Program) -> Iterator[str]:
    yield make_namespace(kube, NAMESPACE)
    drop_namespace(kube, NAMESPACE)


@pytest.fixture(scope="module")
def stack(program: Program, namespace: str) -> Stack:
    return program.stack("refused", config(namespace))


def config(namespace: str, **more: Any) -> dict[str, Any]:
    return {"namespace": namespace, "version": versions()["17"], "replicas": 1, **more}


def nothing_was_made(kube: Kube) -> bool:
    kinds = ("pods", "services", "secrets", CLAIMS, LEASES, STATEFUL_SETS)
    return not [found for kind in kinds for found in kube.list(kube.path(NAMESPACE, kind))]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("replicas", 0, "it must be a whole number from 1 to 32"),
        ("version", "12.1", "supported are PostgreSQL 13 to 18"),
        ("standbyMode", "Lukewarm", "standbyMode"),
    ],
)
def test_a_bad_value_ends_in_one_sentence(
    kube: Kube, stack: Stack, key: str, value: object, sentence: str
) -> None:
    """Every refused value is tested in the component layer; here, that the CLI shows it."""
    before = dict(stack.config)
    stack.set(**{key: value})
    try:
        answer = stack.try_up()
    finally:
        stack.config = before
        stack.write()
    assert answer.status != 0
    assert sentence in answer.text and str(value) in answer.text, answer.text
    assert "Traceback" not in answer.text
    assert nothing_was_made(kube)


def test_a_namespace_that_is_missing_is_named(stack: Stack) -> None:
    before = dict(stack.config)
    stack.set(namespace="e2e-nowhere")
    try:
        answer = stack.try_up()
    finally:
        stack.config = before
        stack.write()
    assert answer.status != 0
    assert "Namespace e2e-nowhere does not exist" in answer.text
    assert "Traceback" not in answer.text


def test_no_cluster_reachable_is_said(stack: Stack, lab: Lab, tmp_path: Path) -> None:
    wrong = yaml.safe_load(lab.kubeconfig.read_text())
    wrong["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(wrong))
    stack.extra_environment = {"KUBECONFIG": str(file)}
    try:
        answer = stack.try_up()
    finally:
        stack.extra_environment = {}
    assert answer.status != 0
    assert "https://127.0.0.1:1" in answer.text
    assert "Traceback" not in answer.text, answer.text


def test_no_right_to_create_a_lease_names_verb_and_resource(
    stack: Stack, lab: Lab, kube: Kube, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(_limited_kubeconfig(lab, kube, namespace)))
    stack.extra_environment = {"KUBECONFIG": str(file)}
    try:
        answer = stack.try_up()
    finally:
        stack.extra_environment = {}
    assert answer.status != 0
    assert "may not create leases in API group coordination.k8s.io" in answer.text
    assert f"namespace {namespace}" in answer.text
    assert "grant it the verb create on the resource leases" in answer.text
    assert "Traceback" not in answer.text
    assert not kube.list(kube.path(namespace, STATEFUL_SETS))


def _limited_kubeconfig(lab: Lab, kube: Kube, namespace: str) -> dict[str, Any]:
    """A user who may do everything in the namespace but with Leases."""
    name = "deployer"
    groups = ["", "apps", "policy", "rbac.authorization.k8s.io", "networking.k8s.io"]
    rules = [{"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}]
    rbac = "rbac.authorization.k8s.io/v1"
    kube.create(kube.path(namespace, "serviceaccounts"), {"metadata": {"name": name}})
    kube.create(
        kube.path(namespace, f"{rbac}/roles"), {"metadata": {"name": name}, "rules": rules}
    )
    kube.create(
        kube.path(namespace, f"{rbac}/rolebindings"),
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )
    issued = kube.create(
        kube.path(namespace, "serviceaccounts", name) + "/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    admin = yaml.safe_load(lab.kubeconfig.read_text())
    user = {"name": name, "user": {"token": issued["status"]["token"]}}
    cluster = admin["clusters"][0]
    context = {"name": name, "context": {"cluster": cluster["name"], "user": name}}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [user],
        "contexts": [context],
        "current-context": name,
    }


def test_an_auth_secret_that_lacks_its_password_is_named(
    stack: Stack, kube: Kube, namespace: str
) -> None:
    user = base64.b64encode(b"owner").decode()
    kube.create(
        kube.path(namespace, "secrets"),
        {"metadata": {"name": "half"}, "data": {"POSTGRES_USER": user}},
    )
    before = dict(stack.config)
    stack.set(authSecret={"name": "half"})
    try:
        answer = stack.try_up()
    finally:
        stack.config = before
        stack.write()
        kube.delete(kube.path(namespace, "secrets", "half"))
    assert answer.status != 0
    assert "that Secret lacks the key POSTGRES_PASSWORD" in answer.text


def test_a_claim_that_cannot_be_bound_is_said(
    program: Program, kube: Kube, namespace: str
) -> None:
    """`pulumi up` waits, and says when it ends which pod cannot be scheduled and why."""
    storage = {"storageClassName": "no-such-class"}
    stack = program.stack("unbound", config(namespace, storage=storage, deletionPolicy="WipeOut"))

    def unscheduled() -> bool:
        pod = kube.get(kube.path(namespace, "pods", "unbound-0")) or {}
        conditions = (pod.get("status") or {}).get("conditions") or []
        return any(c.get("reason") == "Unschedulable" for c in conditions)

    answer = stack.up_until(unscheduled, 60)
    assert answer.status != 0
    assert "unbound-0" in answer.text and "0/3 nodes are available" in answer.text, answer.text
    assert "unbound immediate PersistentVolumeClaims" in answer.text, answer.text
    stack.destroy()


def test_an_image_without_postgresql_is_said(
    program: Program, kube: Kube, namespace: str
) -> None:
    """The agent says so in the container's log, and the pod never becomes ready."""
    image = "docker.io/pgha/operator:dev"
    stack = program.stack("noserver", config(namespace, image=image, storageType="Ephemeral"))

    def ended() -> bool:
        pod = kube.get(kube.path(namespace, "pods", "noserver-0")) or {}
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        return any(status.get("restartCount", 0) > 0 for status in statuses)

    answer = stack.up_until(ended, 60)
    assert answer.status != 0
    log = _log(program.lab, namespace, "noserver-0")
    assert "this image has no PostgreSQL" in log, log
    stack.destroy()


def _log(lab: Lab, namespace: str, pod: str) -> str:
    for more in ((), ("--previous",)):
        answer = lab.kubectl("logs", "-n", namespace, pod, "-c", "postgres", *more)
        if answer.stdout.strip():
            return answer.stdout
    return answer.stderr
