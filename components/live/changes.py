"""Which changes of a standing cluster are refused, and why. Owns those rules; pure.

Each rule protects data: Kubernetes or Pulumi would carry out the change by replacing the
StatefulSet or its claims, or PostgreSQL could not start on the data that is there.
"""

from __future__ import annotations

from collections.abc import Iterator

from components.config.cluster import ClusterConfig, username_flaw
from components.config.quantity import quantity_bytes
from components.config.refusal import Refused, refusal
from components.live.given_auth import given_auth, superuser
from components.live.given_tls import flaw
from components.live.standing import PASSWORD, USER, LiveSecret, Standing
from components.naming import STACK, Names

MEMBER_KEYS = ("replicationPassword", "ca.crt", "member.crt", "member.key")


def check_changes(config: ClusterConfig, standing: Standing) -> None:
    """Raises Refused with one sentence if the config may not follow on what stands."""
    for refused in _refusals(config, standing):
        raise refused


def _refusals(config: ClusterConfig, standing: Standing) -> Iterator[Refused]:
    if not standing.reached:
        return
    yield from _identity(config, standing)
    yield from _secrets(config, standing)
    yield from _settings(config, standing)
    yield from _storage(config, standing)


def moved(config: ClusterConfig, namespace: str, name: str) -> Refused:
    """The sentence for a stack that already is the cluster of that namespace and name."""
    key = "name" if name != config.name else "namespace"
    return refusal(
        key,
        config.name if key == "name" else config.namespace,
        f"this stack already is the cluster {name} in namespace {namespace}, and a cluster is "
        "not renamed or moved: make another stack for another cluster",
    )


def _identity(config: ClusterConfig, standing: Standing) -> Iterator[Refused]:
    for namespace, name in standing.other_clusters:
        yield moved(config, namespace, name)
    live = standing.stateful_set
    if live is None:
        return
    owner = (live["metadata"].get("annotations") or {}).get(STACK)
    if owner != standing.stack:
        yield refusal(
            "name",
            config.name,
            f"namespace {config.namespace} has a StatefulSet of that name, made by "
            + (f"the stack {owner}" if owner else "somebody else"),
        )
    app_name = live["spec"]["selector"]["matchLabels"].get("app.kubernetes.io/name")
    if app_name != config.app_name:
        yield refusal(
            "appName",
            config.app_name,
            f"it must stay {app_name} while the cluster stands, since pods are selected by it",
        )


def _secrets(config: ClusterConfig, standing: Standing) -> Iterator[Refused]:
    names = Names.of(config)
    own = given_auth(config, standing)
    if own:
        theirs = standing.secrets.get(own)
        if theirs is None:
            yield refusal(
                "authSecret.name", own, f"namespace {config.namespace} has no Secret of that name"
            )
        else:
            for key in (USER, PASSWORD):
                if not theirs.values.get(key):
                    yield refusal("authSecret.name", own, f"that Secret lacks the key {key}")
            user = theirs.values.get(USER, "")
            if not standing.has_data and (why := username_flaw(user)):
                yield Refused(
                    f"Secret {own} in namespace {config.namespace} has {USER} {user}, but {why}."
                )
            if config.username not in (user, "postgres"):
                yield refusal(
                    "username",
                    config.username,
                    f"it must be left out or be the Secret's {USER}, which is {user}",
                )
    elif (made := standing.secrets.get(names.auth_secret)) is not None:
        user = made.values.get(USER, config.username)
        if user != config.username:
            yield refusal(
                "username",
                config.username,
                f"it must stay {user}, the superuser of Secret {names.auth_secret}",
            )
    kept: list[tuple[str, tuple[str, ...]]] = [(names.members_secret, MEMBER_KEYS)]
    kept += [] if own else [(names.auth_secret, (USER, PASSWORD))]
    kept += [] if config.client_tls.secret_name else [(names.tls_secret, ())]
    for name, keys in kept:
        yield from _kept_secret(name, keys, standing.secrets.get(name), config, standing)
    yield from _tls(config, standing)


def _tls(config: ClusterConfig, standing: Standing) -> Iterator[Refused]:
    given = config.client_tls.secret_name
    if not given:
        return
    found = standing.secrets.get(given)
    own = given == Names.of(config).tls_secret
    if found is None:
        why: str | None = f"namespace {config.namespace} has no Secret of that name" + (
            ": leave the key out, and the stack makes it" if own else ""
        )
    elif own and found.stack == standing.stack:
        why = "that is the Secret which the stack makes where the key is left out: leave it out"
    elif why := flaw(found.values):
        why = f"that Secret {why}"
    if why:
        yield refusal("clientTLS.secretName", given, why)


def _kept_secret(
    name: str,
    keys: tuple[str, ...],
    found: LiveSecret | None,
    config: ClusterConfig,
    standing: Standing,
) -> Iterator[Refused]:
    if found is None:
        return
    whose = f"Secret {name} in namespace {config.namespace}"
    if found.stack != standing.stack:
        maker = f"the stack {found.stack}" if found.stack else "something else"
        yield Refused(
            f"{whose} was made by {maker}: delete it, or take it over with `kubectl annotate "
            f"secret -n {config.namespace} {name} --overwrite {STACK}={standing.stack}`."
        )
    for key in keys:
        if not found.values.get(key):
            yield Refused(
                f"{whose} lacks the key {key}: restore the key, or delete the Secret and the "
                "cluster's claims to begin anew."
            )


def _settings(config: ClusterConfig, standing: Standing) -> Iterator[Refused]:
    live = standing.settings
    if live is None or standing.stateful_set is None:
        return
    major = str(live.get("version", "")).split(".")[0]
    if major.isdigit() and int(major) != config.major:
        yield refusal(
            "version",
            config.version,
            f"the data is PostgreSQL {major}'s, and a change of the major version needs a dump "
            "and a restore into another stack",
        )
    if live.get("database", config.database) != config.database:
        yield refusal(
            "database",
            config.database,
            f"it must stay {live['database']}: make more databases with CREATE DATABASE",
        )
    user = superuser(config, standing)
    if user and str(live.get("username", user)).strip() != user:
        must = f"it must stay {live['username']}, the superuser that the data was made with"
        given = given_auth(config, standing)
        if given in standing.secrets:
            yield Refused(f"Secret {given} has {USER} {user}, but {must}.")
        else:
            yield refusal("username", config.username, must)


def _storage(config: ClusterConfig, standing: Standing) -> Iterator[Refused]:
    template = standing.claim_template
    if standing.stateful_set is not None and (template is not None) != config.durable:
        yield refusal(
            "storageType",
            config.storage_type,
            f"it must stay {'Durable' if template is not None else 'Ephemeral'} while the "
            "cluster stands",
        )
    if not config.durable:
        return
    if template is not None:
        yield from _template(config, template.get("storageClassName"), template["accessModes"])
    size = quantity_bytes(config.storage.size) or 0
    key = "storage.resources.requests.storage"
    for claim in standing.claims.values():
        live = quantity_bytes(claim.requested) or 0
        if size < live:
            yield refusal(
                key,
                config.storage.size,
                f"a claim cannot shrink, and {claim.name} has {claim.requested}",
            )
        elif size > live and not claim.expandable:
            yield refusal(
                key,
                config.storage.size,
                f"{claim.name} has {claim.requested} and its StorageClass {claim.storage_class} "
                "does not allow expansion",
            )


def _template(
    config: ClusterConfig, storage_class: str | None, modes: list[str]
) -> Iterator[Refused]:
    wanted = config.storage.storage_class_name
    if (storage_class or "") != wanted:
        yield refusal(
            "storage.storageClassName",
            wanted,
            f"it must stay {storage_class or 'empty'} while the cluster stands",
        )
    if sorted(modes) != sorted(config.storage.access_modes):
        yield refusal(
            "storage.accessModes",
            list(config.storage.access_modes),
            f"it must stay {', '.join(modes)} while the cluster stands",
        )
