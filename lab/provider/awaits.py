"""When an object counts as made. Pure: live objects in, what is still missing out.

An empty list means ready. A condition that can no longer come true raises `Failed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lab.provider import kinds

Object = dict[str, Any]

DEFAULT_SECONDS = 600.0
CLAIM_SECONDS = 300.0
SETTLE_SECONDS = 10.0
"""How long a Service's endpoints must stay unchanged, for stragglers among its pods."""


class Failed(Exception):
    """Waiting longer is in vain."""


@dataclass(frozen=True)
class Around:
    """What an await looks at beside the object itself."""

    endpoints: list[Object] = field(default_factory=list)
    replica_sets: list[Object] = field(default_factory=list)
    """Those that the Deployment owns."""
    settled: bool = True
    bind_late: bool = False
    """The claim's class binds only when a pod needs the volume."""
    first: bool = True
    """The object is new, not changed."""


Check = Callable[[Object, Around], list[str]]


def check_of(obj: Object) -> Check | None:
    """The await of this kind; None for a kind that is ready once it exists."""
    return _CHECKS.get((str(obj.get("apiVersion")), str(obj.get("kind"))))


def read_check_of(obj: Object) -> Check | None:
    """The await that a refresh makes as well; not every kind has one."""
    return check_of(obj) if obj.get("kind") not in _POLLED else None


def at_last(around: Around) -> Around:
    """The look that decides when time is up: what had no time to settle counts as settled."""
    return replace(around, settled=True, first=False)


def limit(obj: Object, timeout: float, annotated: str) -> float:
    """Seconds to wait: customTimeouts, else pulumi.com/timeoutSeconds, else ten minutes.

    As in the official provider, a volume or claim has five minutes, whatever was configured.
    """
    if obj.get("kind") in _POLLED and not kinds.annotation(obj, "waitFor"):
        return CLAIM_SECONDS
    if timeout:
        return timeout
    return float(annotated) if re.fullmatch(r"[+-]?\d+", annotated) else DEFAULT_SECONDS


def timed_out(obj: Object) -> str:
    """What is said when time is up."""
    name = obj["metadata"]["name"]
    if kinds.annotation(obj, "waitFor"):
        return "timed out waiting for the condition"
    if obj.get("kind") in _POLLED:
        return f"Timeout occurred polling for '{name}'"
    return f"'{name}' timed out waiting to be Ready"


def _status(live: Object) -> Object:
    status: Object = live.get("status") or {}
    return status


def _taken_up(live: Object) -> bool:
    """Has the controller seen the newest spec? Until then its status tells of an older one."""
    seen: int = _status(live).get("observedGeneration", 0)
    wanted: int = live["metadata"].get("generation", 0)
    return seen >= wanted > 0


def _stateful_set(live: Object, _: Around) -> list[str]:
    status, wanted = _status(live), live["spec"].get("replicas", 1)
    if not _taken_up(live):
        return ["StatefulSet controller has not taken up the newest spec"]
    counts = {key: status.get(key, 0) for key in
              ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas")}  # fmt: skip
    current, newest = status.get("currentRevision", ""), status.get("updateRevision", "")
    on_delete = (live["spec"].get("updateStrategy") or {}).get("type") == "OnDelete"
    if on_delete and live["metadata"].get("generation", 0) > 1:
        rolled, whole = True, counts["replicas"] == counts["readyReplicas"] == wanted
    else:
        rolled = current != "" and current == newest
        whole = (
            counts["replicas"] == counts["readyReplicas"] == counts["currentReplicas"] == wanted
        )
    missing = []
    if not whole:
        ready = counts["readyReplicas"]
        shown = ready if rolled else min(ready, counts["updatedReplicas"])
        missing.append(f"{shown} out of {wanted} replicas succeeded readiness checks")
    if not rolled:
        missing.append(
            f'StatefulSet controller failed to advance from revision "{current}" '
            f'to revision "{newest}"'
        )
    return missing


REVISION = "deployment.kubernetes.io/revision"


def _deployment(live: Object, around: Around) -> list[str]:
    """Available, rolled out (from the second revision on), and its ReplicaSet's pods ready."""
    if not _taken_up(live):
        return ["Deployment controller has not taken up the newest spec"]
    revision = _annotations(live).get(REVISION)
    if not revision:
        return ["Deployment controller has not made a ReplicaSet yet"]
    missing = []
    found = {each["type"]: each for each in _status(live).get("conditions") or []}
    for name in ("Available", "Progressing"):
        condition = found.get(name, {})
        if condition.get("status") == "False":
            missing.append(f"[{condition.get('reason')}] {condition.get('message')}")
    rolled = found.get("Progressing", {}).get("reason") == "NewReplicaSetAvailable"
    if not missing and "Available" not in found:
        missing.append("Deployment is not available yet")
    if not missing and revision != "1" and not rolled:
        missing.append("Deployment is still rolling out")
    newest = [each for each in around.replica_sets if _annotations(each).get(REVISION) == revision]
    if not newest:
        return [*missing, "Deployment controller has not made a ReplicaSet yet"]
    # Of the ReplicaSet, not of the Deployment: somebody may have scaled it since.
    wanted = newest[-1]["spec"].get("replicas", 1)
    ready = _status(newest[-1]).get("readyReplicas", 0)
    if ready < wanted:
        missing.append(f"{ready} out of {wanted} replicas succeeded readiness checks")
    return missing


def _annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def _daemon_set(live: Object, _: Around) -> list[str]:
    status = _status(live)
    if not _taken_up(live):
        return ["DaemonSet controller has not taken up the newest spec"]
    wanted = status.get("desiredNumberScheduled", 0)
    ready = min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0))
    return [] if ready >= wanted else [f"{ready} out of {wanted} pods are ready"]


def _service(live: Object, around: Around) -> list[str]:
    spec = live["spec"]
    if spec.get("type") == "LoadBalancer" and not (
        (_status(live).get("loadBalancer") or {}).get("ingress")
    ):
        return ["Service was not allocated an IP address; does your cloud provider support this?"]
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
        return []
    if not spec.get("selector"):
        return []
    conditions = [
        endpoint.get("conditions") or {}
        for piece in around.endpoints
        for endpoint in piece.get("endpoints") or []
    ]
    unready = [
        each for each in conditions if each.get("ready") is False and not each.get("terminating")
    ]
    if unready or not around.settled or (around.first and not around.endpoints):
        return [
            "Service does not target any Pods. Selected Pods may not be ready, or "
            "field '.spec.selector' may not match labels on any Pods"
        ]
    return []


def _claim(live: Object, around: Around) -> list[str]:
    phase = _status(live).get("phase")
    if phase == "Bound" or (around.bind_late and phase == "Pending"):
        return []
    return [f"PersistentVolumeClaim is not bound. status.phase currently at: {phase}"]


def _volume(live: Object, _: Around) -> list[str]:
    phase = _status(live).get("phase")
    return [] if phase in ("Available", "Bound") else [f"PersistentVolume is {phase}"]


def _pod(live: Object, _: Around) -> list[str]:
    status = _status(live)
    if status.get("phase") == "Succeeded":
        return []
    for condition in status.get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return []
    return [f"Pod is {status.get('phase')}"]


def _job(live: Object, _: Around) -> list[str]:
    for condition in _status(live).get("conditions", []):
        if condition["status"] == "True":
            if condition["type"] == "Complete":
                return []
            if condition["type"] == "Failed":
                raise Failed(f"[{condition.get('reason')}] {condition.get('message')}")
    return ["Job has not completed"]


_CHECKS: dict[tuple[str, str], Check] = {
    ("apps/v1", "DaemonSet"): _daemon_set,
    ("apps/v1", "Deployment"): _deployment,
    ("apps/v1", "StatefulSet"): _stateful_set,
    ("batch/v1", "Job"): _job,
    ("v1", "PersistentVolume"): _volume,
    ("v1", "PersistentVolumeClaim"): _claim,
    ("v1", "Pod"): _pod,
    ("v1", "Service"): _service,
}
_POLLED = ("PersistentVolume", "PersistentVolumeClaim")
