"""The members' claims. Owns their template and their growth.

The StatefulSet makes the claims, and its template is immutable: changing it would replace the
StatefulSet. So the template stays as it was when the stack came up, and once the configured size
differs from what stands, each member's claim is set by a server-side apply patch: an existing
claim grows, the claim of a member that a later scale-up brings is made in the right size before
its pod. Those patches are never undone (`retain_on_delete`); claims end by the StatefulSet's own
retention policy, to which the claims that a scale-down left behind are subjected as well.
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


def declare_ownership(parent: pulumi.Resource, context: Context) -> list[pulumi.Resource]:
    """With Delete and WipeOut: the StatefulSet becomes the owner of former members' claims.

    Its retention policy looks only at the claims of pods that are there. The StatefulSet depends
    on these patches, so that on destroy it goes first and takes the claims with it; after a
    change to Halt they are undone, and the claims stay.
    """
    config, standing = context.config, context.standing
    if config.keeps_claims or not config.durable or not standing.former_claims:
        return []
    if standing.uid is None:
        pulumi.log.warn(
            f"deletionPolicy is {config.deletion_policy}, and former members left the claims "
            f"{', '.join(standing.former_claims)}: run `pulumi up` once more before "
            "`pulumi destroy`, or they stay.",
            parent,
        )
        return []
    owner: Any = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": context.names.name,
        "uid": standing.uid,
        "blockOwnerDeletion": True,
    }
    return [
        kubernetes.core.v1.PersistentVolumeClaimPatch(
            f"{claim}-owner",
            metadata={
                "name": claim,
                "namespace": context.names.namespace,
                "annotations": _patch_annotations("pgha-claim-owner"),
                "owner_references": [owner],
            },
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for claim in standing.former_claims
    ]


def _patch_annotations(field_manager: str) -> dict[str, str]:
    return {
        "pulumi.com/patchForce": "true",
        "pulumi.com/patchFieldManager": field_manager,
        "pulumi.com/skipAwait": "true",
    }


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
                    **_patch_annotations("pgha-claims"),
                },
            },
            spec=spec,
            opts=pulumi.ResourceOptions(parent=parent, retain_on_delete=True),
        )
        for ordinal in range(config.replicas)
    ]
