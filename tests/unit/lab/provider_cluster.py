"""A cluster in memory for the provider's unit tests. Owns objects, time, and what was asked.

It knows no merging rules: those of the real API server are tested in tests/integration.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from lab.provider.api import ApiError, NoSuchKind, Unreachable
from lab.provider.lifecycle import Lifecycle
from lab.provider.outcome import Settings
from lab.provider.waiting import Calls, Pace, Waiting

Object = dict[str, Any]
T = TypeVar("T")
URN = "urn:pulumi:dev::shop::kubernetes:core/v1:ConfigMap::settings"


class FakeCluster:
    """Objects by kind, namespace and name; `later` changes one as time goes by."""

    default_namespace = "default"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.failures: dict[str, list[Exception]] = {}
        self.lists: dict[str, list[Object]] = {}
        self.unknown: set[str] = set()
        self._made = 0

    @staticmethod
    def _key(obj: Object) -> tuple[str, str, str]:
        metadata = obj["metadata"]
        return obj["kind"], metadata.get("namespace") or "", metadata["name"]

    def _ask(self, verb: str, *rest: Any) -> None:
        self.asked.append((verb, *rest))
        if self.failures.get(verb):
            raise self.failures[verb].pop(0)

    def verbs(self) -> list[str]:
        return [each[0] for each in self.asked]

    def namespaced(self, version: str, kind: str) -> bool:
        if kind in self.unknown:
            raise NoSuchKind(f'no matches for kind "{kind}" in version "{version}"')
        return not kind.startswith("Cluster")

    def put(self, obj: Object) -> Object:
        self._made += 1
        metadata = {"uid": f"uid-{self._made}", "generation": 1, **obj["metadata"],
                    "resourceVersion": str(self._made)}  # fmt: skip
        self.objects[self._key(obj)] = {**copy.deepcopy(obj), "metadata": metadata}
        return copy.deepcopy(self.objects[self._key(obj)])

    def get(self, obj: Object) -> Object | None:
        self._ask("get", self._key(obj))
        return copy.deepcopy(self.objects.get(self._key(obj)))

    def create(self, obj: Object, manager: str, dry_run: bool = False) -> Object:
        self._ask("create", manager, dry_run)
        if obj["kind"] in self.unknown:
            raise NoSuchKind(f'no matches for kind "{obj["kind"]}"')
        if self._key(obj) in self.objects:
            name = obj["metadata"]["name"]
            raise ApiError(409, "AlreadyExists", f'configmaps "{name}" already exists')
        if dry_run:
            return {**obj, "status": {}}
        entry = {"manager": manager, "operation": "Update", "fieldsV1": {"f:data": {}}}
        metadata = {**obj["metadata"], "managedFields": [entry]}
        return self.put({**obj, "metadata": metadata})

    def apply(self, obj: Object, manager: str, force: bool, dry_run: bool = False) -> Object:
        self._ask("apply", manager, force, dry_run, copy.deepcopy(obj))
        old = self.objects.get(self._key(obj), {})
        kept = {**(old.get("metadata") or {}), **obj["metadata"]}
        new = {**old, **obj, "metadata": kept}
        return copy.deepcopy(new) if dry_run else self.put(new)

    def set_managers(self, live: Object, entries: list[Object]) -> Object:
        self._ask("set_managers", entries)
        obj = self.objects[self._key(live)]
        obj["metadata"]["managedFields"] = entries
        return copy.deepcopy(obj)

    def delete(self, obj: Object, propagation: str) -> bool:
        self._ask("delete", propagation)
        found = self.objects.get(self._key(obj))
        if found is None:
            return False
        if not found["metadata"].get("finalizers"):
            del self.objects[self._key(obj)]
        return True

    def list(self, version: str, kind: str, namespace: str, selector: str = "") -> list[Object]:
        self._ask("list", kind, namespace, selector)
        return copy.deepcopy(self.lists.get(kind, []))


class FakePace(Pace):
    """Time passes only when somebody waits; then `later` may change the world."""

    def __init__(self, later: Callable[[float], None] = lambda now: None) -> None:
        super().__init__()
        self._time, self._later = 0.0, later

    def now(self) -> float:
        return self._time

    async def pause(self, seconds: float) -> None:
        self._time += seconds
        self._later(self._time)


class Bench:
    """The verbs over a fake cluster."""

    def __init__(
        self, settings: Settings | None = None, later: Callable[[float], None] = lambda now: None
    ) -> None:
        self.cluster = FakeCluster()
        self.pace = FakePace(later)
        self.said: list[str] = []

        async def say(urn: str, text: str) -> None:
            self.said.append(text)

        calls = Calls(workers=1)
        waiting = Waiting(calls, self.pace, say)
        self.verbs = Lifecycle(
            settings or Settings(), lambda: self.cluster, calls, self.pace, waiting
        )


def run(awaitable: Awaitable[T]) -> T:
    async def main() -> T:
        return await awaitable

    return asyncio.run(main())


UNREACHABLE = Unreachable("no answer from https://10.90.0.1:6443: connection refused")


def config_map(name: str = "settings", **data: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "demo"}, "data": data,
    }  # fmt: skip


def stateful_set(status: Object | None = None, replicas: int = 3) -> Object:
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "pg", "namespace": "demo", "generation": 1, "uid": "set-1"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "pg"}}},
        "status": status or {},
    }  # fmt: skip


def rolled_out(**changes: Any) -> dict[str, Any]:
    """The status of a StatefulSet whose three pods are all ready."""
    return {
        "observedGeneration": 1, "replicas": 3, "readyReplicas": 3,
        "currentReplicas": 3, "updatedReplicas": 3,
        "currentRevision": "pg-1", "updateRevision": "pg-1", **changes,
    }  # fmt: skip
