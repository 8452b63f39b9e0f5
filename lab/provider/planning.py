"""Check and diff: what the program wants, and what that changes. Writes nothing.

Both work without a cluster; one is asked for the scope of a kind that is not built in, if it
answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.provider import differences as d
from lab.provider import kinds
from lab.provider.api import ApiError, Kubernetes, NoSuchKind, Unreachable
from lab.provider.checkpoint import inputs_of, live_of
from lab.provider.kubeconfig import NoCluster, active_cluster
from lab.provider.normal import normalized
from lab.provider.outcome import Refused, Settings
from lab.provider.wire import UNKNOWN, has_unknown, marked, revealed

Object = dict[str, Any]


@dataclass(frozen=True)
class Naming:
    """How the engine wants an object named whose program gives it no name."""

    name: str
    """The resource's own, in the program."""
    seed: bytes = b""
    proposed: str = ""
    disabled: bool = False


@dataclass(frozen=True)
class Diff:
    """The changes, those that replace the object, and whether the old one must go first."""

    changes: list[d.Change]
    replacing: list[d.Change]
    delete_first: bool


class Planning:
    """`cluster` may fail with NoCluster; it is called only when needed."""

    def __init__(self, settings: Settings, cluster: Callable[[], Kubernetes]) -> None:
        self._settings, self._cluster = settings, cluster

    def check(self, type_token: str, olds: Object, news: Object, naming: Naming) -> Object:
        """The inputs with name and namespace filled in, as the API server would keep them."""
        if kinds.is_list(type_token):
            raise Refused("list resources cannot be created directly: declare their items")
        old, new = revealed(olds), revealed(news)
        if not has_unknown(new):
            new = normalized(new)
        metadata = new.get("metadata")
        if metadata is UNKNOWN:
            return news
        new["metadata"] = metadata = dict(metadata or {})
        if kinds.is_patch(type_token, str(new.get("kind", ""))):
            if not metadata.get("name"):
                raise Refused("patch resources require the `.metadata.name` field to be set")
        elif metadata.get("name") is None and metadata.get("generateName") is None:
            self._name(metadata, (old.get("metadata") or {}) if old else None, naming)
        if metadata.get("name") is None and metadata.get("generateName") is not None:
            raise Refused(
                "the `.metadata.generateName` field is not supported in Server-Side Apply mode"
            )
        if not metadata.get("namespace") and self._namespaced(type_token, new) is not False:
            metadata["namespace"] = self._default_namespace()
        return marked(new, news)

    def _name(self, metadata: Object, old: Object | None, naming: Naming) -> None:
        was = (old or {}).get("annotations") or {}
        if old and was.get(kinds.AUTONAMED) == "true":
            name = str(old["name"])
        elif naming.disabled:
            raise Refused(
                "autonaming is disabled, resource requires the .metadata.name field to be set"
            )
        else:
            name = naming.proposed or f"{naming.name}-{kinds.random_suffix(naming.seed)}"
        metadata["name"] = name
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}), kinds.AUTONAMED: "true"
        }  # fmt: skip

    def _default_namespace(self) -> str:
        if self._settings.namespace:
            return self._settings.namespace
        try:
            return self._cluster().default_namespace
        except NoCluster:
            return "default"

    def _namespaced(self, type_token: str, obj: Object) -> bool | None:
        """None if nobody can tell: such a kind is taken for a namespaced one."""
        version = str(obj.get("apiVersion") or kinds.api_version(type_token))
        kind = str(obj.get("kind") or type_token.split(":")[-1])
        known = kinds.namespaced(version, kind)
        if known is not None:
            return known
        try:
            return self._cluster().namespaced(version, kind)
        except (NoCluster, NoSuchKind, Unreachable, ApiError):
            return None

    def diff(self, type_token: str, state: Object, news: Object, ignore: list[str]) -> Diff:
        """What the state's live object lacks to be what the program says."""
        new, live = revealed(news), live_of(state)
        old_inputs = inputs_of(state)
        if not has_unknown(new):
            new, old_inputs = normalized(new), normalized(old_inputs)
        old = d.pruned(live, old_inputs)
        old.setdefault("apiVersion", new.get("apiVersion"))
        old.setdefault("kind", new.get("kind"))
        old_metadata, new_metadata = old.get("metadata"), new.get("metadata")
        if isinstance(old_metadata, dict) and isinstance(new_metadata, dict):
            old_metadata, new_metadata = dict(old_metadata), dict(new_metadata)
            old["metadata"], new["metadata"] = old_metadata, new_metadata
            for each in (old_metadata, new_metadata):
                if self._namespaced(type_token, new) is False:
                    each.pop("namespace", None)
                else:
                    each["namespace"] = each.get("namespace") or "default"
            if new_metadata.get("name"):
                old_metadata["name"] = live["metadata"]["name"]
        changes = [
            each for each in d.differences(old, new) if not d.ignored(each.path, ignore)
        ]
        rules: tuple[str, ...] = kinds.ALWAYS
        if not kinds.is_patch(type_token, str(new.get("kind", ""))):
            rules = kinds.replacing(new, self._settings.mutable(new.get("kind")))
        replacing = [each for each in changes if each.replaces(rules)]
        return Diff(changes, replacing, bool(replacing) and _same_place(live, new_metadata))


def provider_replacing(olds: Object, news: Object, changed: list[str]) -> list[str]:
    """The arguments of a provider whose change means another cluster, so that everything it made
    is to be replaced. A cluster has no name of its own: its entry in the kubeconfig stands for it,
    unless the program gives a clusterIdentifier."""
    own = "clusterIdentifier"
    if own in changed and olds.get(own) is not None and news.get(own) is not None:
        return [own]
    if own not in changed and news.get(own) is not None:
        return []
    where: list[str] = [key for key in ("kubeconfig", "context", "cluster") if key in changed]
    unknown = [key for key in where if has_unknown(news.get(key))]
    if unknown:
        return unknown[:1]
    old, new = (_active(Settings.of(each, {})) for each in (olds, news))
    return where if old is not None and new is not None and old != new else []


def _active(settings: Settings) -> Object | None:
    return active_cluster(settings.kubeconfig, settings.context, settings.cluster)


def _same_place(live: Object, metadata: Any) -> bool:
    """Will the new object have the old one's name, so that both cannot be there at once?"""
    if not isinstance(metadata, dict):
        return False
    if (metadata.get("annotations") or {}).get(kinds.AUTONAMED) == "true":
        return False
    was = live["metadata"]
    return metadata.get("name") == was.get("name") and (
        (metadata.get("namespace") or None) == (was.get("namespace") or None)
    )
