"""Which cluster the stack is. Owns its memory in the stack's state, and that it stays the same.

Without the right to list StatefulSets in all namespaces, a search for the cluster under its former
namespace finds nothing (live/standing.py). The state knows it whatever the rights are.
"""

from __future__ import annotations

import pulumi

from components.config.cluster import ClusterConfig
from components.live.changes import moved


def same_cluster(config: ClusterConfig) -> pulumi.Output[pulumi.Resource]:
    """A resource to depend on; it fails with one sentence if the stack was another cluster.

    A stash gives what the first run put into it, in a preview as well. What depends on the failure
    is not registered, and a program that failed deletes nothing.
    """
    now = {"namespace": config.namespace, "name": config.name}
    # The name is none of the cluster's: it must be found again under another one.
    stash = pulumi.Stash(
        "cluster", input=now, opts=pulumi.ResourceOptions(ignore_changes=["input"])
    )

    def checked(first: dict[str, str]) -> pulumi.Resource:
        if first != now:
            raise moved(config, first["namespace"], first["name"])
        return stash

    return stash.output.apply(checked)
