"""When an object counts as made, and what is said while it is not."""

from __future__ import annotations

from typing import Any

import pytest

from lab.provider import awaits, pods
from lab.provider.awaits import Around
from tests.unit.lab.provider_cluster import rolled_out, stateful_set

pytestmark = pytest.mark.unit

NEW = Around()


def missing(obj: dict[str, Any], around: Around = NEW) -> list[str]:
    check = awaits.check_of(obj)
    assert check is not None
    return check(obj, around)


def test_a_stateful_set_is_ready_when_all_replicas_are_of_the_newest_revision() -> None:
    assert missing(stateful_set(rolled_out())) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"readyReplicas": 2}, "2 out of 3 replicas succeeded readiness checks"),
        ({"observedGeneration": 0}, "has not taken up the newest spec"),
        ({"replicas": 4}, "3 out of 3 replicas succeeded readiness checks"),
        (
            {"updateRevision": "pg-2", "updatedReplicas": 1, "currentReplicas": 2},
            "1 out of 3 replicas succeeded readiness checks",
        ),
        (
            {"updateRevision": "pg-2"},
            'failed to advance from revision "pg-1" to revision "pg-2"',
        ),
    ],
)
def test_a_stateful_set_that_is_not_ready(changes: dict[str, Any], said: str) -> None:
    assert said in "; ".join(missing(stateful_set(rolled_out(**changes))))


def test_a_stateful_set_without_status_is_not_ready() -> None:
    assert missing(stateful_set())
    assert missing(stateful_set(replicas=0))


def test_on_delete_asks_for_no_revision_after_an_update() -> None:
    obj = stateful_set(rolled_out(updateRevision="pg-2", observedGeneration=2))
    obj["spec"]["updateStrategy"] = {"type": "OnDelete"}
    obj["metadata"]["generation"] = 2
    assert missing(obj) == []


def deployment(revision: str = "1", **status: Any) -> dict[str, Any]:
    annotations = {"deployment.kubernetes.io/revision": revision} if revision else {}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2},
            "metadata": {"name": "web", "generation": 1, "annotations": annotations},
            "status": {"observedGeneration": 1, **status}}  # fmt: skip


def replica_set(ready: int, revision: str = "1", replicas: int = 2) -> dict[str, Any]:
    annotations = {"deployment.kubernetes.io/revision": revision}
    return {"metadata": {"annotations": annotations}, "spec": {"replicas": replicas},
            "status": {"readyReplicas": ready}}  # fmt: skip


FINE = {"type": "Available", "status": "True"}
ROLLED = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
ROLLING = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": "timed out"}  # fmt: skip


def test_a_deployment_is_ready_when_available_and_its_replica_set_too() -> None:
    around = Around(replica_sets=[replica_set(2)])
    assert missing(deployment(conditions=[FINE]), around) == []
    assert missing(deployment(), around) == ["Deployment is not available yet"]
    assert "not taken up" in missing(deployment(observedGeneration=0), around)[0]
    assert "not made a ReplicaSet" in missing(deployment("", conditions=[FINE]), around)[0]
    assert "not made a ReplicaSet" in missing(deployment(conditions=[FINE]))[0]
    assert "[ProgressDeadlineExceeded] timed out" in missing(
        deployment(conditions=[FINE, LATE]), around
    )
    scaled = Around(replica_sets=[replica_set(1, replicas=1)])
    assert missing(deployment(conditions=[FINE]), scaled) == []
    assert missing(deployment(conditions=[FINE]), Around(replica_sets=[replica_set(1)])) == [
        "1 out of 2 replicas succeeded readiness checks"
    ]


def test_a_later_revision_of_a_deployment_must_have_rolled_out() -> None:
    both = Around(replica_sets=[replica_set(2, "1"), replica_set(2, "2")])
    assert missing(deployment("2", conditions=[FINE, ROLLED]), both) == []
    assert missing(deployment("2", conditions=[FINE, ROLLING]), both) == [
        "Deployment is still rolling out"
    ]
    old = Around(replica_sets=[replica_set(2, "1"), replica_set(0, "2")])
    assert missing(deployment("2", conditions=[FINE, ROLLED]), old)


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pg"},
            "spec": {"selector": {"app": "pg"}, **spec}}  # fmt: skip


def endpoints(*ready: bool, terminating: bool = False) -> list[dict[str, Any]]:
    return [
        {"endpoints": [{"conditions": {"ready": r, "terminating": terminating}} for r in ready]}
    ]


def test_a_service_is_ready_when_its_endpoints_are() -> None:
    assert missing(service(), Around(endpoints(True, True))) == []
    assert "does not target any Pods" in missing(service())[0]
    assert missing(service(), Around(endpoints(True, False)))
    assert missing(service(), Around(endpoints(True), settled=False))
    assert missing(service(), Around(endpoints(True, False, terminating=True))) == []


@pytest.mark.parametrize(
    "spec", [{"clusterIP": "None"}, {"type": "ExternalName"}, {"selector": {}}]
)
def test_services_that_are_not_waited_for(spec: dict[str, Any]) -> None:
    assert missing(service(**spec)) == []


def test_a_load_balancer_wants_an_address() -> None:
    assert "not allocated an IP address" in missing(service(type="LoadBalancer"))[0]


def test_a_claim_is_bound_or_waits_for_its_first_pod() -> None:
    def claim(phase: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": phase}}

    assert missing(claim("Bound")) == []
    assert "currently at: Pending" in missing(claim("Pending"))[0]
    assert missing(claim("Pending"), Around(bind_late=True)) == []
    assert missing(claim("Lost"), Around(bind_late=True))
    assert awaits.read_check_of(claim("Pending")) is None


def test_a_failed_job_is_not_waited_for() -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": [
        {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "no"}
    ]}}  # fmt: skip
    with pytest.raises(awaits.Failed, match="BackoffLimitExceeded"):
        missing(job)


def test_a_kind_without_an_await_is_ready_at_once() -> None:
    assert awaits.check_of({"apiVersion": "v1", "kind": "ConfigMap"}) is None


def test_how_long_to_wait() -> None:
    claim = {"kind": "PersistentVolumeClaim"}
    assert awaits.limit({}, 7.0, "9") == 7.0
    assert awaits.limit({}, 0.0, "9") == 9.0
    assert awaits.limit({}, 0.0, "soon") == 600.0
    assert awaits.limit({}, 0.0, "9.5") == 600.0
    # The official provider polls these for five minutes whatever it was told.
    assert awaits.limit(claim, 7.0, "9") == 300.0


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pg-0", "namespace": "demo",
                         "ownerReferences": [{"kind": "StatefulSet", "uid": "set-1"}]},
            "status": status}  # fmt: skip


def test_pods_say_why_they_are_not_ready() -> None:
    unscheduled = pod(conditions=[
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    ])  # fmt: skip
    broken = pod(
        conditions=[{"type": "Ready", "status": "False",
                     "message": "containers with unready status: [postgres]"}],
        containerStatuses=[{
            "name": "postgres", "ready": False,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "lastState": {"terminated": {"finishedAt": "T", "reason": "Error", "exitCode": 1,
                                         "message": "no such directory\n"}},
        }],
    )  # fmt: skip
    starting = pod(conditions=[{"type": "Ready", "status": "False", "message": ""}],
                   containerStatuses=[{"name": "c", "ready": False, "state": {
                       "waiting": {"reason": "ContainerCreating"}}}])  # fmt: skip
    fine = pod(conditions=[{"type": "Ready", "status": "True"}])
    assert pods.complaints([unscheduled, broken, starting, fine]) == [
        "[Pod demo/pg-0]: 0/3 nodes are available",
        "[Pod demo/pg-0]: containers with unready status: [postgres]; "
        '[CrashLoopBackOff] back-off 10s; container "postgres" terminated at T '
        "(Error: exit code 1) no such directory",
    ]


def test_only_its_own_pods_speak_for_an_object() -> None:
    stranger = {"metadata": {"name": "x", "ownerReferences": [
        {"kind": "ReplicaSet", "uid": "other"}]}}  # fmt: skip
    assert pods.owned([pod(), stranger], stateful_set()) == [pod()]
    assert pods.owned([pod(), stranger], {"kind": "Deployment", "metadata": {"uid": "d"}}) == [
        stranger
    ]
