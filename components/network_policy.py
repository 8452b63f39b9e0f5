"""Who may reach the members, and whom they may reach. Owns the NetworkPolicy.

Probes come from the node, which every policy admits. The API server has no label to select it
by, so the members may reach any address on the ports that API servers use.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.context import Context
from components.naming import HTTP_PORT, PEERS_PORT, POSTGRES_PORT, Names

CLIENT_NAMESPACE = {"pgha.dev/client": "true"}
API_SERVER_PORTS = (443, 6443)
DNS_PORT = 53


def policy_spec(names: Names) -> dict[str, Any]:
    """spec of the NetworkPolicy."""

    def ports(*numbers: int, protocol: str = "TCP") -> list[dict[str, Any]]:
        return [{"port": number, "protocol": protocol} for number in numbers]

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
            {"ports": ports(DNS_PORT) + ports(DNS_PORT, protocol="UDP")},
            {"ports": ports(*API_SERVER_PORTS)},
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
            spec: Any = policy_spec(names)
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
