"""What the agents need to elect a primary: the Lease, and the rights to it. Owns the Role's rules.

The Lease is declared with metadata only: the agents own its spec and its record annotation. One
that was deleted by hand is made again by an agent, which is why they may create leases.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.config.cluster import MAX_MEMBERS
from components.context import Context
from components.naming import Names


def role_rules(names: Names) -> list[dict[str, Any]]:
    """Least privilege (law, point 16): by resourceNames wherever Kubernetes allows it.

    `create`, `list` and `watch` cannot be limited to names that may not exist yet, except a
    list or watch by the field selector metadata.name.
    """
    pods = [names.pod(ordinal) for ordinal in range(MAX_MEMBERS)]

    def rule(
        group: str, resource: str, verbs: str, only: list[str] | None = None
    ) -> dict[str, Any]:
        limited = {"resourceNames": only} if only else {}
        return {"apiGroups": [group], "resources": [resource], "verbs": verbs.split(), **limited}

    return [
        rule("coordination.k8s.io", "leases", "get list watch update patch", [names.name]),
        rule("coordination.k8s.io", "leases", "create"),
        rule("", "pods", "get list watch"),
        rule("", "pods", "patch", pods),
        rule("apps", "statefulsets", "get list watch", [names.name]),
        rule("", "events", "create patch"),
    ]


class Election(pulumi.ComponentResource):
    """Lease NAME, ServiceAccount NAME, Role NAME and its RoleBinding."""

    objects: list[pulumi.Resource]

    def __init__(self, name: str, context: Context, opts: pulumi.ResourceOptions) -> None:
        super().__init__("pgha:index:Election", name, None, opts)
        names = context.names
        metadata: Any = {
            "name": names.name,
            "namespace": names.namespace,
            "labels": names.labels,
            "annotations": context.annotations,
        }
        options = context.options(self)
        lease = kubernetes.coordination.v1.Lease(
            names.name,
            metadata=metadata,
            opts=pulumi.ResourceOptions.merge(
                options, pulumi.ResourceOptions(ignore_changes=["spec"])
            ),
        )
        account = kubernetes.core.v1.ServiceAccount(
            names.name,
            metadata=metadata,
            automount_service_account_token=False,
            opts=options,
        )
        rules: Any = role_rules(names)
        role = kubernetes.rbac.v1.Role(names.name, metadata=metadata, rules=rules, opts=options)
        binding = kubernetes.rbac.v1.RoleBinding(
            names.name,
            metadata=metadata,
            role_ref={
                "api_group": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": names.name,
            },
            subjects=[{"kind": "ServiceAccount", "name": names.name, "namespace": names.namespace}],
            opts=context.options(self, depends_on=[account, role]),
        )
        self.objects = [lease, account, role, binding]
        self.register_outputs({"lease": names.name})
