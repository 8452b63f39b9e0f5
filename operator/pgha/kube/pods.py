"""Turns a pod object into the few facts the agent decides by. Owns parsing, tolerant of anything.

A death certificate (law, amendment 12) is a container state `terminated` whose message carries
the incarnation id that the agent wrote to its terminationMessagePath when it started. Reason
ContainerStatusUnknown, phase, conditions and a deletion timestamp certify nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ROLE_LABEL = "kubedb.com/role"
TERM_ANNOTATION = "pgha.dev/term"
STATUS_ANNOTATION = "pgha.dev/status"
SETTINGS_ANNOTATION = "pgha.dev/settings"
REVISION_LABEL = "controller-revision-hash"
CONTAINER = "postgres"

ContainerState = Literal["running", "terminated", "waiting"]
_INCARNATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,252}")


@dataclass(frozen=True)
class PodView:
    """One pod; `None` and empty mean "not known"."""

    name: str
    uid: str
    ip: str | None
    role: str | None
    term: int | None
    deleting: bool
    ready: bool
    node: str | None
    container_state: ContainerState
    terminated_incarnation: str | None
    """The newest incarnation certified dead: of `state`, else of `lastState`."""
    dead_incarnations: tuple[str, ...]
    """All incarnations certified dead by this object, newest first."""
    restart_count: int
    started_at: str | None
    spec_hash: str | None
    """The StatefulSet's controller-revision-hash of this pod."""
    settings_hash: str | None
    shares_processes: bool
    """shareProcessNamespace or hostPID: the fencer cannot work there, the agent refuses."""


def parse_pod(obj: Mapping[str, Any]) -> PodView:
    """Never raises; a missing or malformed part reads as unknown."""
    metadata, spec = _mapping(obj.get("metadata")), _mapping(obj.get("spec"))
    status = _mapping(obj.get("status"))
    labels, notes = _mapping(metadata.get("labels")), _mapping(metadata.get("annotations"))
    container = _container(status)
    state, last = _mapping(container.get("state")), _mapping(container.get("lastState"))
    dead = tuple(x for x in (_incarnation(state), _incarnation(last)) if x is not None)
    kind: ContainerState = "waiting"
    if "terminated" in state:
        kind = "terminated"
    elif "running" in state:
        kind = "running"
    restarts = container.get("restartCount")
    return PodView(
        name=_text(metadata.get("name")) or "",
        uid=_text(metadata.get("uid")) or "",
        ip=_text(status.get("podIP")),
        role=_text(labels.get(ROLE_LABEL)),
        term=parse_term(notes.get(TERM_ANNOTATION)),
        deleting=bool(metadata.get("deletionTimestamp")),
        ready=_ready(status),
        node=_text(spec.get("nodeName")),
        container_state=kind,
        terminated_incarnation=dead[0] if dead else None,
        dead_incarnations=dead,
        restart_count=restarts if isinstance(restarts, int) else 0,
        started_at=_text(_mapping(state.get("running")).get("startedAt")),
        spec_hash=_text(labels.get(REVISION_LABEL)),
        settings_hash=_text(notes.get(SETTINGS_ANNOTATION)),
        shares_processes=bool(spec.get("shareProcessNamespace") or spec.get("hostPID")),
    )


def parse_term(value: object) -> int | None:
    """The term in an annotation, None when it is absent or no number."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return None


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    listed = status.get("containerStatuses")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and entry.get("name") == CONTAINER:
            return entry
    return {}


def _incarnation(state: Mapping[str, Any]) -> str | None:
    terminated = _mapping(state.get("terminated"))
    message = terminated.get("message")
    if terminated.get("reason") == "ContainerStatusUnknown" or not isinstance(message, str):
        return None
    text = message.strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text).get("incarnation", ""))
        except (ValueError, AttributeError, RecursionError):
            return None
    else:
        text = text.splitlines()[0].strip() if text else ""
    return text if _INCARNATION.fullmatch(text) else None


def _ready(status: Mapping[str, Any]) -> bool:
    listed = status.get("conditions")
    return any(
        isinstance(entry, dict) and entry.get("type") == "Ready" and entry.get("status") == "True"
        for entry in (listed if isinstance(listed, list) else [])
    )


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
