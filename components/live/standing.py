"""What already stands of a cluster, in the words of this program. Reads; refuses nothing of it.

`read_standing` is the only place where the program looks at live objects: `changes.py` judges
what it returns, the components use it to take kept Secrets and claims over.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.config.cluster import ClusterConfig
from components.config.refusal import Refused
from components.live.api import Api, Forbidden
from components.naming import MANAGED_BY, STACK, Names

USER, PASSWORD = "POSTGRES_USER", "POSTGRES_PASSWORD"
"""The superuser's keys in its Secret; the agent strips their values, and so does this program."""

SIZE_SET = "pgha.dev/size-set"
"""Annotation on a claim whose size this program set after the claim was made."""

API_SERVER_SLICES = (
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    "?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"
)
CREATED = (
    ("coordination.k8s.io", "leases"),
    ("", "serviceaccounts"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("", "secrets"),
    ("", "configmaps"),
    ("", "services"),
    ("apps", "statefulsets"),
    ("policy", "poddisruptionbudgets"),
)
"""(API group, resource) of everything that each stack creates."""


@dataclass(frozen=True)
class LiveSecret:
    """A Secret as it stands: its decoded values and the stack that made it."""

    values: Mapping[str, str]
    stack: str | None


@dataclass(frozen=True)
class LiveClaim:
    """A member's claim as it stands."""

    name: str
    requested: str
    storage_class: str
    size_set: bool
    expandable: bool


@dataclass(frozen=True)
class Standing:
    """Live objects under the names of this cluster; empty where nothing stands.

    `claims` are those of the declared members, `former_claims` the names of those that earlier
    and more members left behind.
    """

    stack: str
    secrets: Mapping[str, LiveSecret] = field(default_factory=dict)
    claims: Mapping[str, LiveClaim] = field(default_factory=dict)
    former_claims: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None
    stateful_set: Mapping[str, Any] | None = None
    other_clusters: tuple[tuple[str, str], ...] = ()
    pod_monitor_crd: bool = False
    api_server_ports: tuple[int, ...] = ()
    reached: bool = True

    @property
    def uid(self) -> str | None:
        """UID of the live StatefulSet."""
        uid = (self.stateful_set or {}).get("metadata", {}).get("uid")
        return None if uid is None else str(uid)

    @property
    def has_data(self) -> bool:
        """Whether there may be a data directory, with a superuser that cannot be another."""
        return self.stateful_set is not None or bool(self.claims)

    @property
    def claim_template(self) -> Mapping[str, Any] | None:
        """The volumeClaimTemplate of the live StatefulSet, if it has one."""
        spec = (self.stateful_set or {}).get("spec") or {}
        for template in spec.get("volumeClaimTemplates") or []:
            return dict(template["spec"])
        return None


def nothing(stack: str) -> Standing:
    """The standing of a preview that reaches no cluster."""
    return Standing(stack, reached=False)


def read_standing(api: Api, config: ClusterConfig, stack: str) -> Standing:
    """What stands now; raises Refused if the namespace or a right is missing."""
    names = Names.of(config)
    core = f"/api/v1/namespaces/{names.namespace}"
    apps = f"/apis/apps/v1/namespaces/{names.namespace}"
    _require_namespace(api, names)
    try:
        stateful_set = api.get(f"{apps}/statefulsets/{names.name}")
        wanted = [
            names.members_secret,
            config.auth_secret.name or names.auth_secret,
            config.client_tls.secret_name or names.tls_secret,
        ]
        secrets = {
            name: _secret(found)
            for name in wanted
            if (found := api.get(f"{core}/secrets/{name}")) is not None
        }
        listed = api.get(f"{core}/persistentvolumeclaims") or {}
        config_map = api.get(f"{core}/configmaps/{names.config_map}")
        other_clusters = _other_clusters(api, names, stack)
    except Forbidden as error:
        raise Refused(f"Reading what stands in the namespace was refused: {error}.") from error
    if stateful_set is None:
        _require_rights(api, names)
    claims = [c for c in listed.get("items", []) if _ordinal(names, c["metadata"]["name"]) >= 0]
    return Standing(
        stack=stack,
        secrets=secrets,
        claims={
            claim.name: claim
            for claim in (_claim(api, found) for found in claims)
            if _ordinal(names, claim.name) < config.replicas
        },
        former_claims=tuple(
            sorted(
                str(found["metadata"]["name"])
                for found in claims
                if _ordinal(names, found["metadata"]["name"]) >= config.replicas
            )
        ),
        settings=_settings(config_map),
        stateful_set=stateful_set,
        other_clusters=other_clusters,
        pod_monitor_crd=_has_pod_monitors(api),
        api_server_ports=_api_server_ports(api) if config.network_policy else (),
    )


def _require_namespace(api: Api, names: Names) -> None:
    try:
        found = api.get(f"/api/v1/namespaces/{names.namespace}")
    except Forbidden:
        return  # one may use a namespace without the right to read it
    if found is None:
        raise Refused(
            f"Namespace {names.namespace} does not exist: make it with "
            f"`kubectl create namespace {names.namespace}`, or set the config key namespace."
        )


def _require_rights(api: Api, names: Names) -> None:
    for group, resource in CREATED:
        if not api.may_create(group, resource, names.namespace):
            where = f" in API group {group}" if group else ""
            raise Refused(
                f"The user of the kubeconfig may not create {resource}{where} in namespace "
                f"{names.namespace}: grant it the verb create on the resource {resource} there."
            )


def _secret(found: Mapping[str, Any]) -> LiveSecret:
    values = {
        name: base64.b64decode(text).decode(errors="replace")
        for name, text in (found.get("data") or {}).items()
    }
    values |= {name: values[name].strip() for name in (USER, PASSWORD) if name in values}
    return LiveSecret(values, _annotations(found).get(STACK))


def _annotations(found: Mapping[str, Any]) -> Mapping[str, str]:
    return found["metadata"].get("annotations") or {}


def _claim(api: Api, found: Mapping[str, Any]) -> LiveClaim:
    spec = found["spec"]
    storage_class = str(spec.get("storageClassName") or "")
    return LiveClaim(
        name=str(found["metadata"]["name"]),
        requested=str(spec["resources"]["requests"]["storage"]),
        storage_class=storage_class,
        size_set=SIZE_SET in _annotations(found),
        expandable=_is_expandable(api, storage_class),
    )


def _ordinal(names: Names, claim: str) -> int:
    """The ordinal of the member whose claim this is, -1 if it is no claim of this cluster."""
    match = re.fullmatch(rf"data-{re.escape(names.name)}-(\d+)", claim, re.ASCII)
    return int(match[1]) if match else -1


def _is_expandable(api: Api, storage_class: str) -> bool:
    try:
        found = api.get(f"/apis/storage.k8s.io/v1/storageclasses/{storage_class}")
    except Forbidden:
        return True  # the API server has the last word when the claim is patched
    return bool(found and found.get("allowVolumeExpansion"))


def _settings(config_map: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    text = ((config_map or {}).get("data") or {}).get("settings.json")
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except ValueError:
        return None  # edited by hand; this program writes it anew


def _other_clusters(api: Api, names: Names, stack: str) -> tuple[tuple[str, str], ...]:
    """(namespace, name) of StatefulSets this stack made under another name or namespace."""
    query = f"?labelSelector={MANAGED_BY.replace('/', '%2F')}%3Dpgha"
    try:
        listed = api.get(f"/apis/apps/v1/statefulsets{query}")
    except Forbidden:
        listed = api.get(f"/apis/apps/v1/namespaces/{names.namespace}/statefulsets{query}")
    found = (item["metadata"] for item in (listed or {}).get("items", []))
    return tuple(
        (meta["namespace"], meta["name"])
        for meta in found
        if (meta.get("annotations") or {}).get(STACK) == stack
        and (meta["namespace"], meta["name"]) != (names.namespace, names.name)
    )


def _has_pod_monitors(api: Api) -> bool:
    try:
        group = api.get("/apis/monitoring.coreos.com/v1")
    except Forbidden:
        return False
    return any(item.get("kind") == "PodMonitor" for item in (group or {}).get("resources", []))


def _api_server_ports(api: Api) -> tuple[int, ...]:
    """The ports behind the Service `kubernetes`; none where they may not be read."""
    try:
        listed = api.get(API_SERVER_SLICES)
    except Forbidden:
        return ()
    slices = (listed or {}).get("items", [])
    found = {port.get("port") for item in slices for port in item.get("ports") or []}
    return tuple(sorted(number for number in found if number))
