"""Why pods are not ready, in the words of Kubernetes, for an await that ended without success."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def complaints(pods: list[Object]) -> list[str]:
    """One line for each pod that is not ready and says why."""
    return [line for pod in pods if (line := _complaint(pod)) is not None]


def owned(pods: list[Object], owner: Object) -> list[Object]:
    """The pods of a StatefulSet, DaemonSet or Job; a Deployment's are its ReplicaSets'."""
    uid, through = owner["metadata"].get("uid"), owner["kind"] == "Deployment"

    def belongs(pod: Object) -> bool:
        references = pod["metadata"].get("ownerReferences") or []
        return is_owned(pod, uid) or (
            through and any(each["kind"] == "ReplicaSet" for each in references)
        )

    return [pod for pod in pods if belongs(pod)]


def is_owned(obj: Object, uid: str | None) -> bool:
    references = obj["metadata"].get("ownerReferences") or []
    return any(each.get("uid") == uid for each in references)


def _complaint(pod: Object) -> str | None:
    status = pod.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    if status.get("phase") == "Succeeded":
        return None
    for name in ("PodScheduled", "Initialized", "Ready"):
        condition = conditions.get(name)
        if condition is None or condition["status"] == "True":
            continue
        said = []
        if condition.get("message"):
            said.append(str(condition["message"]))
        for container in [
            *(status.get("initContainerStatuses") or []),
            *(status.get("containerStatuses") or []),
        ]:
            said += _container(container)
        if said:
            return f"[Pod {_full_name(pod)}]: " + "; ".join(said)
    return None


def _container(container: Object) -> list[str]:
    state = container.get("state") or {}
    said = []
    waiting, ended = state.get("waiting"), state.get("terminated")
    finished_well = ended is not None and ended.get("exitCode") == 0
    if container.get("ready") or finished_well:
        return []
    if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
        said.append(f"[{waiting.get('reason')}] {waiting.get('message', '')}".strip())
    if ended:
        said.append(_end(container, ended))
    last = (container.get("lastState") or {}).get("terminated")
    if last:
        said.append(_end(container, last))
    return said


def _end(container: Object, ended: Object) -> str:
    text = (
        f"container \"{container['name']}\" terminated at {ended.get('finishedAt')} "
        f"({ended.get('reason')}: exit code {ended.get('exitCode')})"
    )
    return f"{text} {ended['message'].strip()}" if ended.get("message") else text


def _full_name(pod: Object) -> str:
    metadata = pod["metadata"]
    namespace = metadata.get("namespace", "")
    name = str(metadata["name"])
    return name if namespace in ("", "default") else f"{namespace}/{name}"
