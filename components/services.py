"""The ways in. Owns Services and their selectors.

NAME and NAME-replicas are the documented two, with the documented selectors. Further Services do
not bear the instance label, so that a search by it prints just those two. `pulumi.com/skipAwait`:
a Service whose only endpoint comes with an election must not hold up a deployment.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.context import Context
from components.naming import HTTP_PORT, PEERS_PORT, POSTGRES_PORT, ROLE

SKIP_AWAIT = {"pulumi.com/skipAwait": "true"}


def service_port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}


def declare_service(
    parent: pulumi.Resource,
    context: Context,
    name: str,
    labels: dict[str, str],
    spec: dict[str, Any],
    protected: bool = True,
    after: list[pulumi.Resource] | None = None,
) -> kubernetes.core.v1.Service:
    """A Service of the cluster that no deployment waits for."""
    body: Any = spec
    return kubernetes.core.v1.Service(
        name,
        metadata={
            "name": name,
            "namespace": context.names.namespace,
            "labels": labels,
            "annotations": {**context.annotations, **SKIP_AWAIT},
        },
        spec=body,
        opts=context.options(parent, protected, after),
    )


class Services(pulumi.ComponentResource):
    """NAME (primary), NAME-replicas (every member), and with Hot NAME-standby (replicas)."""

    def __init__(
        self,
        name: str,
        context: Context,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """`after`: what no later `up` may find protected; see below."""
        super().__init__("pgha:index:Services", name, None, opts)
        names = context.names
        ports = {"type": "ClusterIP", "ports": [service_port("postgres", POSTGRES_PORT)]}
        optional = [*after]
        if context.config.hot:
            standby = declare_service(
                self,
                context,
                names.standby_service,
                names.extension_labels,
                {**ports, "selector": {**names.selector, ROLE: "replica"}},
                protected=False,
            )
            optional.append(standby)
        # The role label alone decides where writes go. If readiness counted too, its flip would be
        # a second change of the endpoints, and kube-proxy syncs at most once a second.
        # It comes after the objects that another config takes away again, which are therefore not
        # protected by DoNotTerminate: a refused destroy stops here, before it reaches them.
        declare_service(
            self,
            context,
            names.name,
            names.labels,
            {
                **ports,
                "selector": {**names.selector, ROLE: "primary"},
                "publishNotReadyAddresses": True,
            },
            after=optional,
        )
        declare_service(
            self,
            context,
            names.replicas_service,
            names.labels,
            {**ports, "selector": names.selector},
        )
        self.register_outputs({"primary": names.name, "replicas": names.replicas_service})


def declare_headless(parent: pulumi.Resource, context: Context) -> kubernetes.core.v1.Service:
    """NAME-pods: a stable DNS name for each member from before it is ready, for its peers."""
    names = context.names
    return declare_service(
        parent,
        context,
        names.headless_service,
        names.extension_labels,
        {
            "clusterIP": "None",
            "selector": names.selector,
            "publishNotReadyAddresses": True,
            "ports": [
                service_port("postgres", POSTGRES_PORT),
                service_port("peers", PEERS_PORT),
                service_port("http", HTTP_PORT),
            ],
        },
    )
