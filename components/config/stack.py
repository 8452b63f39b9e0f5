"""The stack's config as Pulumi hands it over. Owns where values come from, not what they mean."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi.runtime import config as runtime

from components.config.cluster import ClusterConfig
from components.config.keys import read_section
from components.config.refusal import refusal

NOT_BUILT = {
    "createNamespace": "it must be left out: stacks may share a namespace, so make it with "
    "`kubectl create namespace` first",
}
"""Keys that a reader of the documents may expect, and why they are refused."""


def cluster_config(values: Mapping[str, object], stack: str) -> ClusterConfig:
    """The validated config; raises Refused with one sentence."""
    for name, reason in NOT_BUILT.items():
        if name in values:
            raise refusal(name, values[name], reason)
    return read_section(ClusterConfig, {**values, "name": values.get("name") or stack})


def stack_config() -> ClusterConfig:
    """The config of the running stack, unknown keys of this project's namespace included."""
    prefix = f"{pulumi.get_project()}:"
    every = {**runtime.get_config_env(), **runtime.CONFIG.get()}
    values = {name[len(prefix) :]: every[name] for name in every if name.startswith(prefix)}
    return cluster_config(values, pulumi.get_stack())
