"""The cluster as one component. Owns which parts it is made of and their order; nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pulumi

from components.config.cluster import ClusterConfig
from components.config.stack import stack_config
from components.context import Context
from components.credentials import Credentials
from components.election import Election
from components.identity import same_cluster
from components.live.api import connect
from components.live.changes import check_changes
from components.live.standing import Standing, nothing, read_standing
from components.members import Members
from components.monitoring import Monitoring
from components.naming import Names
from components.network_policy import NetworkPolicy
from components.outputs import cluster_outputs
from components.services import Services


class PostgresCluster(pulumi.ComponentResource):
    """One PostgreSQL cluster: a primary, its standbys, and everything they need.

    Raises Refused, before anything is created, if the config may not follow on what stands.
    """

    outputs: dict[str, Any]

    def __init__(
        self,
        name: str,
        config: ClusterConfig,
        standing: Standing,
        opts: pulumi.ResourceOptions | None = None,
        now: datetime | None = None,
    ) -> None:
        """`now`: the time by which certificates are renewed, the clock's if left out."""
        check_changes(config, standing)
        remains = pulumi.ResourceOptions(depends_on=[same_cluster(config)])
        options = pulumi.ResourceOptions.merge(opts, remains)
        super().__init__("pgha:index:PostgresCluster", name, None, options)
        context = Context(config, Names.of(config), standing, now or datetime.now(UTC))
        inside = pulumi.ResourceOptions(parent=self)
        credentials = Credentials(name, context, inside)
        election = Election(name, context, inside)
        Members(
            name,
            context,
            auth_secret=credentials.auth_secret,
            tls_secret=credentials.tls_secret,
            username=credentials.user,
            after=[*credentials.objects, *election.objects],
            opts=inside,
        )
        monitoring = Monitoring(name, context, inside)
        policy = NetworkPolicy(name, context, inside)
        Services(name, context, after=[*monitoring.objects, *policy.objects], opts=inside)
        self.outputs = cluster_outputs(
            config,
            context.names,
            credentials.user,
            credentials.password,
            credentials.auth_secret,
            credentials.ca_certificate,
        )
        self.register_outputs(self.outputs)


def deploy_stack() -> PostgresCluster:
    """The running stack's cluster, with its outputs exported."""
    config = stack_config()
    stack = f"{pulumi.get_project()}/{pulumi.get_stack()}"
    api = connect(preview=bool(pulumi.runtime.is_dry_run()))
    standing = nothing(stack) if api is None else read_standing(api, config, stack)
    cluster = PostgresCluster(config.name, config, standing)
    for key, value in cluster.outputs.items():
        pulumi.export(key, value)
    return cluster
