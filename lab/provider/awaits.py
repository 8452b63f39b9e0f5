"""When an object counts as made. Pure: a live object in, the reason to wait on (or None) out."""

from __future__ import annotations

from typing import Any

DEFAULT_SECONDS = 600.0


def pending(live: dict[str, Any], endpoints: list[dict[str, Any]] | None = None) -> str | None:
    """Why the object is not ready yet, in a few words; None once it is."""
    check = _CHECKS.get(str(live.get("kind")))
    if check is None:
        return None
    return check(live, endpoints or [])


def _observed(live: dict[str, Any]) -> str | None:
    seen = (live.get("status") or {}).get("observedGeneration")
    wanted = live["metadata"].get("generation")
    return None if seen == wanted else "its newest spec was not taken up yet"


def _stateful_set(live: dict[str, Any], _: list[dict[str, Any]]) -> str | None:
    status, spec = live.get("status") or {}, live["spec"]
    wanted = spec.get("replicas", 1)
    if why := _observed(live):
        return why
    ready = status.get("readyReplicas", 0)
    if ready != wanted:
        return f"{ready} of {wanted} replicas are ready"
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        return None
    if status.get("updatedReplicas", 0) != wanted or (
        status.get("currentRevision") != status.get("updateRevision")
    ):
        return f"{status.get('updatedReplicas', 0)} of {wanted} replicas have the newest revision"
    if status.get("replicas", 0) != wanted:
        return f"{status.get('replicas', 0)} replicas are there, {wanted} are wanted"
    return None


def _deployment(live: dict[str, Any], _: list[dict[str, Any]]) -> str | None:
    status, wanted = live.get("status") or {}, live["spec"].get("replicas", 1)
    if why := _observed(live):
        return why
    for condition in status.get("conditions", []):
        if condition["type"] == "Progressing" and condition["status"] == "False":
            return str(condition.get("message", "it does not progress"))
    if status.get("updatedReplicas", 0) != wanted or status.get("availableReplicas", 0) != wanted:
        return f"{status.get('availableReplicas', 0)} of {wanted} replicas are available"
    if status.get("replicas", 0) != wanted:
        return "replicas of an older revision still run"
    return None


def _service(live: dict[str, Any], endpoints: list[dict[str, Any]]) -> str | None:
    spec = live["spec"]
    if spec.get("type") == "ExternalName" or not spec.get("selector"):
        return None
    if spec.get("clusterIP") == "None":
        return None
    for piece in endpoints:
        for endpoint in piece.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready"):
                return None
    return "it has no ready endpoint"


def _claim(live: dict[str, Any], _: list[dict[str, Any]]) -> str | None:
    phase = (live.get("status") or {}).get("phase")
    return None if phase == "Bound" else f"its phase is {phase}"


def _pod(live: dict[str, Any], _: list[dict[str, Any]]) -> str | None:
    status = live.get("status") or {}
    if status.get("phase") == "Succeeded":
        return None
    for condition in status.get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return None
    return f"its phase is {status.get('phase')}"


_CHECKS = {
    "StatefulSet": _stateful_set,
    "Deployment": _deployment,
    "Service": _service,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
}


def unready(pods: list[dict[str, Any]]) -> str:
    """For the message of an await that timed out: which pods are not ready, and why."""
    lines = []
    for pod in pods:
        status, reasons = pod.get("status") or {}, []
        if _pod(pod, []) is None:
            continue
        for one in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
            state = one.get("state") or {}
            for how in ("waiting", "terminated"):
                if how in state and (how == "waiting" or state[how].get("exitCode")):
                    said = state[how]
                    reasons.append(
                        f"container {one['name']}: {said.get('reason')} {said.get('message', '')}"
                        .strip()
                    )
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                reasons.append(str(condition.get("message")))
        lines.append(f"  [Pod {pod['metadata']['name']}]: " + ("; ".join(reasons) or "not ready"))
    return "\n".join(lines)
