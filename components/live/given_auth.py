"""Who the superuser is, and whose Secret names it. Pure; owns the rule on the stack's own name."""

from __future__ import annotations

from components.config.cluster import ClusterConfig
from components.live.standing import USER, Standing
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


def superuser(config: ClusterConfig, standing: Standing) -> str:
    """By the user's own Secret where that can be read, empty if it names none; else `username`."""
    own = standing.secrets.get(given_auth(config, standing))
    return own.values.get(USER, "") if own else config.username
