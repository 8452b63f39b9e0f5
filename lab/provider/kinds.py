"""What is particular to a kind: which changes replace it, its scope, its name. Pure.

The lists are those of the official provider (provider/pkg/provider/diff.go); what the API refuses
to change and they do not name is the API server's error, there as here.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

#: A change at or below one of these paths replaces any object.
ALWAYS = ("metadata.name", "metadata.namespace")

_CONTAINER = (
    "args command env image imagePullPolicy lifecycle livenessProbe ports readinessProbe "
    "resources securityContext stdin stdinOnce terminationMessagePath terminationMessagePolicy "
    "tty volumeDevices volumeMounts workingDir"
).split()
_POD = (
    "affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks hostAliases "
    "hostIPC hostNetwork hostPID hostname imagePullSecrets nodeName nodeSelector overhead "
    "preemptionPolicy priority priorityClassName readinessGates restartPolicy runtimeClassName "
    "schedulerName securityContext serviceAccount serviceAccountName shareProcessNamespace "
    "subdomain terminationGracePeriodSeconds volumes"
).split()
_VOLUME = (
    "awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker "
    "gcePersistentDisk glusterfs hostPath iscsi local nfs photonPersistentDisk portworxVolume "
    "quobyte rbd scaleIO storageos vsphereVolume"
).split()

REPLACING: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps/v1", "DaemonSet"): ("spec.selector",),
    ("apps/v1", "Deployment"): ("spec.selector",),
    ("apps/v1", "StatefulSet"): (
        "spec.podManagementPolicy", "spec.revisionHistoryLimit", "spec.selector",
        "spec.serviceName", "spec.volumeClaimTemplates",
    ),
    ("batch/v1", "Job"): (
        "spec.completions", "spec.parallelism", "spec.selector", "spec.template",
    ),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): ("roleRef",),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): ("roleRef",),
    ("storage.k8s.io/v1", "StorageClass"): ("parameters", "provisioner"),
    ("v1", "PersistentVolume"): tuple(f"spec.{each}" for each in _VOLUME),
    ("v1", "PersistentVolumeClaim"): (
        "spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeName",
    ),
    ("v1", "Pod"): (
        *(f"spec.{each}" for each in _POD),
        *(f"spec.containers.{each}" for each in _CONTAINER),
        *(f"spec.initContainers.{each}" for each in _CONTAINER),
    ),
    ("v1", "ResourceQuota"): ("spec.scopes",),
    ("v1", "Secret"): ("type",),
    ("v1", "Service"): ("spec.clusterIP",),
}  # fmt: skip

_BUILT_IN_GROUPS = frozenset(
    {"", "apps", "autoscaling", "batch", "policy"}
    | {
        f"{name}.k8s.io"
        for name in "admissionregistration apiextensions apiregistration authentication "
        "authorization certificates coordination discovery events flowcontrol.apiserver "
        "networking node rbac.authorization resource scheduling storage".split()
    }
)
_CLUSTER_WIDE = frozenset(
    "Namespace Node PersistentVolume StorageClass VolumeAttachment VolumeAttributesClass CSIDriver "
    "CSINode ClusterRole ClusterRoleBinding CustomResourceDefinition PriorityClass RuntimeClass "
    "IngressClass MutatingWebhookConfiguration ValidatingWebhookConfiguration "
    "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding APIService "
    "CertificateSigningRequest FlowSchema PriorityLevelConfiguration".split()
)

READ_ONLY = (
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation",
    "managedFields", "resourceVersion", "selfLink", "uid",
)  # fmt: skip
FREE_FORM = frozenset(
    {"labels", "annotations", "matchLabels", "nodeSelector", "data", "binaryData", "stringData"}
)
"""Maps whose keys are the user's own, so that no key below them has a meaning."""
AUTONAMED = "pulumi.com/autonamed"


def replacing(obj: dict[str, Any], mutable_data: bool) -> tuple[str, ...]:
    """The paths that replace this object; `mutable_data`: enableSecretMutable and its like.

    Without that setting a ConfigMap or Secret is replaced when its data changes.
    """
    version, kind = obj.get("apiVersion"), obj.get("kind")
    frozen = not mutable_data or obj.get("immutable") is True
    if (version, kind) == ("v1", "Secret") and frozen:
        return (*ALWAYS, "type", "stringData", "data")
    if (version, kind) == ("v1", "ConfigMap") and frozen:
        return (*ALWAYS, "binaryData", "data")
    return (*ALWAYS, *REPLACING.get((str(version), str(kind)), ()))


def api_version(type_token: str) -> str:
    """`kubernetes:apps/v1:Deployment` -> `apps/v1`; the core group has no name in the API."""
    group, _, version = type_token.split(":")[1].rpartition("/")
    return version if group in ("", "core") else f"{group}/{version}"


def is_patch(type_token: str, kind: str) -> bool:
    """`…Patch` resources set fields of an object that somebody else may own."""
    return type_token.endswith("Patch") and not kind.endswith("Patch")


def is_list(type_token: str) -> bool:
    return type_token.endswith("List")


def namespaced(version: str, kind: str) -> bool | None:
    """None for a kind that only discovery can tell."""
    return kind not in _CLUSTER_WIDE if built_in(version) else None


def built_in(version: str) -> bool:
    """Is it of Kubernetes itself, so that the SDK knows its fields?"""
    return version.rpartition("/")[0] in _BUILT_IN_GROUPS


def identity(obj: dict[str, Any]) -> str:
    """The resource's id, as the official provider makes it: `namespace/name` or `name`."""
    metadata = obj.get("metadata") or {}
    name, namespace = str(metadata.get("name", "")), metadata.get("namespace")
    return f"{namespace}/{name}" if namespace else name


def annotation(obj: dict[str, Any], key: str) -> str:
    """The annotation `pulumi.com/KEY`, or an empty string."""
    metadata = obj.get("metadata")
    given = metadata.get("annotations") if isinstance(metadata, dict) else None
    value = given.get(f"pulumi.com/{key}") if isinstance(given, dict) else None
    return value if isinstance(value, str) else ""


def annotated_true(obj: dict[str, Any], key: str) -> bool:
    return annotation(obj, key) == "true"


def random_suffix(seed: bytes) -> str:
    """Eight hexadecimal digits; the same for the same seed, so that a preview tells the name."""
    return hashlib.sha256(seed).hexdigest()[:8] if seed else secrets.token_hex(4)
