"""The members. Owns the StatefulSet, the settings' ConfigMap, the headless Service and the PDB.

The StatefulSet refers to the ConfigMap and the Secrets by plain names, not by outputs: the
provider replaces a ConfigMap whose data changed, and a reference would drag the StatefulSet
along. `depends_on` keeps the order: up in front of the pods, down after them, so that an agent
has its rights until it has left.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.claims import claim_spec, declare_growth, declare_ownership, retention_policy
from components.config.quantity import quantity_bytes
from components.context import Context
from components.pods import pod_template
from components.services import declare_headless
from components.settings import settings_hash, settings_json

SMALLEST = 1 << 30  # bytes of a disk that is not said to be small


class Members(pulumi.ComponentResource):
    """StatefulSet NAME, ConfigMap NAME-config, Service NAME-pods, PodDisruptionBudget NAME."""

    def __init__(
        self,
        name: str,
        context: Context,
        auth_secret: str,
        tls_secret: str,
        username: str,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("pgha:index:Members", name, None, opts)
        config, names = context.config, context.names
        if config.replicas == 1:
            pulumi.log.warn(
                f"replicas is 1: {names.name} has no failover, and is down whenever its pod is.",
                self,
            )
        size = config.storage.resources.requests.storage
        if size and (quantity_bytes(size) or 0) < SMALLEST:
            pulumi.log.warn(
                f"storage.resources.requests.storage is {size}: beside the data each member keeps "
                "512MB of WAL for the others, and more between two checkpoints, which fill such a "
                "disk: set 1Gi or more.",
                self,
            )
        text = settings_json(config, username)
        config_map = kubernetes.core.v1.ConfigMap(
            names.config_map,
            metadata=self._metadata(context, names.config_map),
            data={"settings.json": text},
            opts=context.options(self, protected=False),
        )
        headless = declare_headless(self, context)
        claims = declare_growth(self, context) + declare_ownership(self, context)
        controller = config.pod_template.controller
        spec: Any = {
            "replicas": config.replicas,
            "serviceName": names.headless_service,
            "podManagementPolicy": "Parallel",
            # Without a partition a pod that is made anew during an update gets the old revision.
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "selector": {"matchLabels": names.selector},
            "template": pod_template(config, names, auth_secret, tls_secret, settings_hash(text)),
        }
        if config.durable:
            spec["persistentVolumeClaimRetentionPolicy"] = retention_policy(config)
            spec["volumeClaimTemplates"] = [
                {"metadata": {"name": "data"}, "spec": claim_spec(config)}
            ]
        kubernetes.apps.v1.StatefulSet(
            names.name,
            metadata=self._metadata(context, names.name, controller.labels, controller.annotations),
            spec=spec,
            opts=pulumi.ResourceOptions.merge(
                context.options(self, depends_on=[config_map, headless, *claims, *after]),
                pulumi.ResourceOptions(ignore_changes=["spec.volumeClaimTemplates"]),
            ),
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            names.name,
            metadata=self._metadata(context, names.name),
            spec={"max_unavailable": 1, "selector": {"match_labels": names.selector}},
            opts=context.options(self),
        )
        self.register_outputs({"statefulSet": names.name, "replicas": config.replicas})

    @staticmethod
    def _metadata(
        context: Context,
        name: str,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> Any:
        return {
            "name": name,
            "namespace": context.names.namespace,
            "labels": {**(labels or {}), **context.names.labels},
            "annotations": {**(annotations or {}), **context.annotations},
        }
