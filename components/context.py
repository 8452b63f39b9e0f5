"""What every part of one cluster is made from. Owns resource options that the parts share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pulumi

from components.config.cluster import ClusterConfig
from components.live.standing import Standing
from components.naming import STACK, Names


@dataclass(frozen=True)
class Context:
    """The config, the names, what stands already, and when this run is."""

    config: ClusterConfig
    names: Names
    standing: Standing
    now: datetime

    @property
    def annotations(self) -> dict[str, str]:
        """Annotations of every object: the stack that it belongs to."""
        return {STACK: self.standing.stack}

    def options(
        self,
        parent: pulumi.Resource,
        protected: bool = True,
        depends_on: list[pulumi.Resource] | None = None,
    ) -> pulumi.ResourceOptions:
        """Options of a resource; DoNotTerminate protects those that no later `up` takes away."""
        return pulumi.ResourceOptions(
            parent=parent,
            protect=protected and self.config.deletion_policy == "DoNotTerminate",
            depends_on=depends_on or [],
        )
