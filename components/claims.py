"""The members' claims. Owns their template and their growth.

The StatefulSet makes the claims, and its template is immutable: changing it would replace the
StatefulSet. So the template stays as it was when the stack came up, and once the configured size
differs from what stands, each member's claim is set by a server-side apply patch: an existing
claim grows, the claim of a member that a later scale-up brings is made in the right size before
its pod. Patches are never undone (`retain_on_delete`); claims end by the StatefulSet's own
retention policy.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.config.cluster import ClusterConfig
from components.config.quantity import quantity_bytes
from components.context import Context
from components.live.standing import SIZE_SET, Standing


def claim_spec(config: ClusterConfig) -> dict[str, Any]:
    """The spec of one member's claim."""
    storage = config.storage
    named = {"storageClassName": storage.storage_class_name} if storage.storage_class_name else {}
    return {
        "accessModes": list(storage.access_modes),
        "resources": {"requests": {"storage": storage.size}},
        **named,
    }


def retention_policy(config: ClusterConfig) -> dict[str, str]:
    """Scaling down always keeps the claim; ending the cluster keeps it with Halt."""
    return {
        "whenDeleted": "Retain" if config.keeps_claims else "Delete",
        "whenScaled": "Retain",
    }


def has_outgrown(config: ClusterConfig, standing: Standing) -> bool:
    """Whether the size is no longer what the live StatefulSet or the live claims were made with.

    It stays true once it was: a claim that was set bears an annotation, so that the patches stay
    declared and a preview right after `up` shows no change.
    """
    if not config.durable:
        return False
    size = quantity_bytes(config.storage.size)
    template = standing.claim_template
    if template is not None and (
        quantity_bytes(template["resources"]["requests"]["storage"]) != size
    ):
        return True
    return any(
        claim.size_set or quantity_bytes(claim.requested) != size
        for claim in standing.claims.values()
    )


def declare_growth(parent: pulumi.Resource, context: Context) -> list[pulumi.Resource]:
    """The patches of all members' claims, or none while the template's size is the config's."""
    config, names = context.config, context.names
    if not has_outgrown(config, context.standing):
        return []
    spec: Any = claim_spec(config)
    return [
        kubernetes.core.v1.PersistentVolumeClaimPatch(
            names.claim(ordinal),
            metadata={
                "name": names.claim(ordinal),
                "namespace": names.namespace,
                "labels": names.selector,
                "annotations": {
                    SIZE_SET: context.standing.stack,
                    "pulumi.com/patchForce": "true",
                    "pulumi.com/patchFieldManager": "pgha-claims",
                    "pulumi.com/skipAwait": "true",
                },
            },
            spec=spec,
            opts=pulumi.ResourceOptions(parent=parent, retain_on_delete=True),
        )
        for ordinal in range(config.replicas)
    ]
