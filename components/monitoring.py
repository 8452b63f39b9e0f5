"""Monitoring beyond the pods' own annotations. Owns the PodMonitor of prometheus.io/operator.

With prometheus.io/builtin nothing is declared here: the scrape annotations are on the pods
(pods.py).
"""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes

from components.config.cluster import OPERATOR
from components.context import Context


class Monitoring(pulumi.ComponentResource):
    """PodMonitor NAME, where the cluster knows that kind."""

    objects: list[pulumi.Resource]

    def __init__(self, name: str, context: Context, opts: pulumi.ResourceOptions) -> None:
        super().__init__("pgha:index:Monitoring", name, None, opts)
        names = context.names
        self.objects = []
        wanted = context.config.monitor == OPERATOR
        declared = wanted and context.standing.pod_monitor_crd
        if wanted and not declared:
            pulumi.log.warn(
                f"monitor is {OPERATOR}, but the cluster has no PodMonitor kind "
                "(monitoring.coreos.com/v1): the PodMonitor is left out; install the Prometheus "
                "operator and run `pulumi up` again.",
                self,
            )
        if declared:
            monitor = kubernetes.apiextensions.CustomResource(
                names.name,
                api_version="monitoring.coreos.com/v1",
                kind="PodMonitor",
                metadata={
                    "name": names.name,
                    "namespace": names.namespace,
                    "labels": names.labels,
                    "annotations": context.annotations,
                },
                spec={
                    "selector": {"matchLabels": names.selector},
                    "podMetricsEndpoints": [{"port": "http", "path": "/metrics"}],
                },
                opts=context.options(self, protected=False),
            )
            self.objects.append(monitor)
        self.register_outputs({"podMonitor": names.name if declared else None})
