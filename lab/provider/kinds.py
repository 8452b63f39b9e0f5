"""What is particular to a kind: which changes replace it, where it lives in the API.

Source: the official provider's `provider/pkg/provider/diff.go` and the API's own immutability.
"""

from __future__ import annotations

import re
from typing import Any

#: A change at or below one of these paths replaces the object, in every kind.
ALWAYS = ("apiVersion", "kind", "metadata.name", "metadata.namespace")

REPLACING: dict[str, tuple[str, ...]] = {
    "ConfigMap": ("immutable",),
    "Secret": ("type", "immutable"),
    "PersistentVolumeClaim": (
        "spec.accessModes", "spec.storageClassName", "spec.volumeName", "spec.volumeMode",
        "spec.selector", "spec.dataSource",
    ),
    "PersistentVolume": ("spec.storageClassName", "spec.hostPath"),
    "Service": ("spec.clusterIP",),
    "StatefulSet": (
        "spec.selector", "spec.serviceName", "spec.podManagementPolicy",
        "spec.volumeClaimTemplates", "spec.revisionHistoryLimit",
    ),
    "Deployment": ("spec.selector",),
    "DaemonSet": ("spec.selector",),
    "Job": ("spec.selector", "spec.template", "spec.completions"),
    "Pod": ("spec",),
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    "StorageClass": ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"),
    "PodDisruptionBudget": (),
}

CLUSTER_WIDE = frozenset(
    "Namespace Node PersistentVolume StorageClass ClusterRole ClusterRoleBinding "
    "CustomResourceDefinition PriorityClass".split()
)


def is_patch(urn_type: str) -> bool:
    """`…Patch` resources set fields of an object that exists."""
    return urn_type.endswith("Patch")


def replaces(kind: str, path: str) -> bool:
    """Does a difference at `path` replace an object of this kind?"""
    flat = re.sub(r'\[[^\]]*\]', "", path)
    return any(
        flat == rule or flat.startswith(rule + ".")
        for rule in (*ALWAYS, *REPLACING.get(kind, ()))
    )


def identity(obj: dict[str, Any]) -> str:
    """The resource's id, as the official provider makes it: `namespace/name` or `name`."""
    metadata = obj.get("metadata") or {}
    name, namespace = str(metadata.get("name", "")), metadata.get("namespace")
    return f"{namespace}/{name}" if namespace else name


def annotation(obj: dict[str, Any], key: str) -> str | None:
    value = ((obj.get("metadata") or {}).get("annotations") or {}).get(f"pulumi.com/{key}")
    return None if value is None else str(value)
