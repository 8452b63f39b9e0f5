"""Names and labels of the cluster's objects. Owns every name that a user sees; creates nothing."""

from __future__ import annotations

from dataclasses import dataclass

from components.config.cluster import ClusterConfig

ROLE = "kubedb.com/role"
STACK = "pgha.dev/stack"
"""Annotation that names the stack an object belongs to, as PROJECT/STACK."""
MANAGED_BY = "app.kubernetes.io/managed-by"
POSTGRES_PORT, HTTP_PORT, PEERS_PORT = 5432, 8008, 8009


@dataclass(frozen=True)
class Names:
    """The names of one cluster's objects."""

    name: str
    namespace: str
    app_name: str

    @classmethod
    def of(cls, config: ClusterConfig) -> Names:
        return cls(config.name, config.namespace, config.app_name)

    @property
    def selector(self) -> dict[str, str]:
        """Selects the members' pods, whatever their role."""
        return {
            "app.kubernetes.io/name": self.app_name,
            "app.kubernetes.io/instance": self.name,
        }

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the objects that a search by instance shall find."""
        return {**self.selector, MANAGED_BY: "pgha"}

    @property
    def extension_labels(self) -> dict[str, str]:
        """Labels of Services beyond the documented two: a search by instance finds just those."""
        return {
            "app.kubernetes.io/name": self.app_name,
            "app.kubernetes.io/part-of": self.name,
            MANAGED_BY: "pgha",
        }

    @property
    def replicas_service(self) -> str:
        return f"{self.name}-replicas"

    @property
    def standby_service(self) -> str:
        return f"{self.name}-standby"

    @property
    def headless_service(self) -> str:
        return f"{self.name}-pods"

    @property
    def auth_secret(self) -> str:
        return f"{self.name}-auth"

    @property
    def members_secret(self) -> str:
        return f"{self.name}-members"

    @property
    def tls_secret(self) -> str:
        return f"{self.name}-tls"

    @property
    def config_map(self) -> str:
        return f"{self.name}-config"

    def pod(self, ordinal: int) -> str:
        return f"{self.name}-{ordinal}"

    def claim(self, ordinal: int) -> str:
        return f"data-{self.pod(ordinal)}"

    def service_host(self, service: str) -> str:
        return f"{service}.{self.namespace}.svc"

    def member_host(self, ordinal: int) -> str:
        """The stable DNS name of a member, through the headless Service."""
        return f"{self.pod(ordinal)}.{self.headless_service}.{self.namespace}.svc"
