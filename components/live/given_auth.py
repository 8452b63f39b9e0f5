"""Whose the superuser's Secret is. Pure; owns the rule on the name that the stack gives its own."""

from __future__ import annotations

from components.config.cluster import ClusterConfig
from components.live.standing import Standing
from components.naming import Names


def given_auth(config: ClusterConfig, standing: Standing) -> str:
    """Name of the user's own Secret, empty where the stack makes NAME-auth.

    `authSecret.name: NAME-auth`, which the seed prints, asks for the stack's own, unless somebody
    else made a Secret of that name.
    """
    name = config.auth_secret.name
    if name != Names.of(config).auth_secret:
        return name
    found = standing.secrets.get(name)
    return "" if found is None or found.stack == standing.stack else name
