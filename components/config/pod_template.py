"""What a user may add to the members' pods. Owns the keys of `podTemplate` and their limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.config.keys import join, key
from components.config.refusal import refusal

RESERVED_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "kubedb.com/")
RESERVED_ANNOTATIONS = ("pgha.dev/", "pulumi.com/")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def is_label_value(text: str) -> bool:
    """Whether Kubernetes takes the text as the value of a label."""
    return _LABEL_VALUE.fullmatch(text) is not None


def _refuse_reserved(path: str, given: Mapping[str, str], reserved: tuple[str, ...]) -> None:
    for name, value in given.items():
        if name.startswith(reserved):
            raise refusal(
                f"{path}.{name}", value, f"{name} is set by this program and may not be given"
            )


@dataclass(frozen=True)
class Metadata:
    """`podTemplate.metadata` and `podTemplate.controller`."""

    labels: dict[str, str] = key("strings by name", {})
    """Labels to add; those that the selectors use are refused."""

    annotations: dict[str, str] = key("strings by name", {})
    """Annotations to add; those under pgha.dev/ and pulumi.com/ are refused."""

    def check(self, path: str) -> None:
        labels = join(path, "labels")
        _refuse_reserved(labels, self.labels, RESERVED_LABELS)
        for name, value in self.labels.items():
            if not is_label_value(value):
                raise refusal(
                    f"{labels}.{name}",
                    value,
                    "a label has at most 63 letters, digits, '-', '_' and '.', "
                    "with a letter or digit at both ends",
                )
        _refuse_reserved(join(path, "annotations"), self.annotations, RESERVED_ANNOTATIONS)


@dataclass(frozen=True)
class PodSpec:
    """`podTemplate.spec`: the keys are Kubernetes' own and are passed on as they are."""

    resources: dict[str, Any] = key("object", {})
    """CPU and memory of the postgres container (requests, limits)."""

    affinity: dict[str, Any] = key("object", {})
    """Affinity of the pods; without it the members prefer nodes of their own."""

    tolerations: tuple[dict[str, Any], ...] = key("objects", ())
    """Tolerations of the pods."""

    node_selector: dict[str, str] = key("strings by name", {})
    """Labels that a node must have."""

    topology_spread_constraints: tuple[dict[str, Any], ...] = key("objects", ())
    """Topology spread constraints of the pods."""

    priority_class_name: str = key("string", "")
    """PriorityClass of the pods."""

    image_pull_secrets: tuple[dict[str, Any], ...] = key("objects", ())
    """Secrets for registries of your own, as `[{name: ...}]`."""

    share_process_namespace: bool = key("boolean", False)
    """Accepted only false: the fencer kills every process of its own PID namespace, and that must
    be the postgres container's alone."""

    host_pid: bool = key("boolean", False, spelled="hostPID")
    """Accepted only false, for the same reason."""

    def check(self, path: str) -> None:
        for name, value in (
            ("shareProcessNamespace", self.share_process_namespace),
            ("hostPID", self.host_pid),
        ):
            if value:
                raise refusal(
                    join(path, name),
                    value,
                    "it must be false, since the fencer kills every process it can see",
                )


@dataclass(frozen=True)
class PodTemplate:
    """`podTemplate`."""

    metadata: Metadata = key(Metadata)
    """Labels and annotations of the pods."""

    controller: Metadata = key(Metadata)
    """Labels and annotations of the StatefulSet."""

    spec: PodSpec = key(PodSpec)
    """Where the pods run and what they may use."""
