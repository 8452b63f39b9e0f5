"""Who may reach the members, and whom they may reach. Owns the NetworkPolicy.

Probes come from the node, which every policy admits. The API server has no label to select it
by, so the members may reach any address on its ports. Most CNIs look at a packet after the
Service's address and port were replaced by those of an endpoint, so the endpoints' ports count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.context import Context
from components.naming import HTTP_PORT, PEERS_PORT, POSTGRES_PORT, Names

CLIENT_NAMESPACE = {"pgha.dev/client": "true"}
API_SERVICE_PORT = 443
USUAL_API_SERVER_PORTS = (6443, 8443, 16443)
"""Of kubeadm, minikube and microk8s; for a run that may not read the endpoints."""
DNS_PORTS = (53, 5353)
"""The Service's, which most DNS pods have as well, and that of OpenShift's."""


def policy_spec(names: Names, api_server_ports: Sequence[int]) -> dict[str, Any]:
    """spec of the NetworkPolicy; `api_server_ports` are the endpoints', empty if not known."""

    def ports(*numbers: int, protocol: str = "TCP") -> list[dict[str, Any]]:
        return [{"port": number, "protocol": protocol} for number in numbers]

    api_ports = sorted({API_SERVICE_PORT, *(api_server_ports or USUAL_API_SERVER_PORTS)})
    members = {"podSelector": {"matchLabels": names.selector}}
    return {
        "podSelector": {"matchLabels": names.selector},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [members], "ports": ports(POSTGRES_PORT, PEERS_PORT)},
            {
                "from": [
                    {"podSelector": {}},
                    {"namespaceSelector": {"matchLabels": CLIENT_NAMESPACE}},
                ],
                "ports": ports(POSTGRES_PORT, HTTP_PORT),
            },
        ],
        "egress": [
            {"to": [members], "ports": ports(POSTGRES_PORT, PEERS_PORT)},
            {"ports": ports(*DNS_PORTS) + ports(*DNS_PORTS, protocol="UDP")},
            {"ports": ports(*api_ports)},
        ],
    }


class NetworkPolicy(pulumi.ComponentResource):
    """NetworkPolicy NAME, if the config asks for it."""

    objects: list[pulumi.Resource]

    def __init__(self, name: str, context: Context, opts: pulumi.ResourceOptions) -> None:
        super().__init__("pgha:index:NetworkPolicy", name, None, opts)
        names = context.names
        self.objects = []
        if context.config.network_policy:
            spec: Any = policy_spec(names, context.standing.api_server_ports)
            policy = kubernetes.networking.v1.NetworkPolicy(
                names.name,
                metadata={
                    "name": names.name,
                    "namespace": names.namespace,
                    "labels": names.labels,
                    "annotations": context.annotations,
                },
                spec=spec,
                opts=context.options(self, protected=False),
            )
            self.objects.append(policy)
        self.register_outputs({})
