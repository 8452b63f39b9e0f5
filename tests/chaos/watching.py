"""Watches roles and the Lease during a trial, as any user with kubectl could. Owns its threads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.chaos.history import History, Lease, Roles
from tests.support.kube import LEASES, Kube, KubeError
from tests.support.postgres import INSTANCE, ROLE, Cluster

RECORD = "pgha.dev/record"
PAUSE = 0.2


class Watcher:
    """Fills a history's `roles` and `leases` until it is stopped."""

    def __init__(self, cluster: Cluster, history: History) -> None:
        self._history = history
        self._kube = Kube(cluster.kube.kubeconfig)  # a pool of its own, which can be closed
        self._stop = threading.Event()
        self._pods: dict[str, dict[str, Any]] = {}
        selector = {"labelSelector": f"{INSTANCE}={cluster.name}"}
        lease = {"fieldSelector": f"metadata.name={cluster.name}"}
        self._threads = [
            threading.Thread(target=self._follow, args=arguments, daemon=True)
            for arguments in (
                (cluster.path("pods"), selector, self._pod_changed),
                (cluster.path(LEASES), lease, self._lease_changed),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; the watches end by themselves at their next event or timeout."""
        self._stop.set()

    def _follow(
        self, path: str, query: dict[str, str], change: Callable[[str, dict[str, Any]], None]
    ) -> None:
        while not self._stop.is_set():
            try:
                listed = self._kube.get(path, **query) or {}
                self._pods = {} if path.endswith("pods") else self._pods
                for item in listed.get("items") or []:
                    change("ADDED", item)
                version = listed["metadata"]["resourceVersion"]
                for event in self._kube.watch(path, {**query, "resourceVersion": version}):
                    if self._stop.is_set():
                        return
                    if event["type"] == "ERROR":
                        break
                    change(event["type"], event["object"])
            except (KubeError, json.JSONDecodeError):
                self._stop.wait(PAUSE)

    def _pod_changed(self, kind: str, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if kind == "DELETED":
            self._pods.pop(name, None)
        else:
            self._pods[name] = pod
        primaries = tuple(
            sorted(
                name for name, pod in self._pods.items()
                if (pod["metadata"].get("labels") or {}).get(ROLE) == "primary"
            )
        )  # fmt: skip
        roles = self._history.roles
        if not roles or roles[-1].primaries != primaries:
            roles.append(Roles(time.monotonic(), primaries))

    def _lease_changed(self, kind: str, lease: dict[str, Any]) -> None:
        if kind == "DELETED":
            return
        notes = lease["metadata"].get("annotations") or {}
        try:
            record: dict[str, Any] = json.loads(notes.get(RECORD) or "{}")
        except ValueError:
            return
        promotion = record.get("promotion") or {}
        holder = (lease.get("spec") or {}).get("holderIdentity") or None
        seen = Lease(
            time.monotonic(), holder, int(record.get("term", 0)), int(record.get("timeline", 0)),
            promotion.get("promoter"), int(promotion.get("term", 0)),
            int(promotion.get("number", 0)), bool(promotion.get("done")),
            bool(record.get("degraded")), dict(record.get("voters") or {}),
        )  # fmt: skip
        last = self._history.leases[-1] if self._history.leases else None
        if last is None or replace(last, at=seen.at) != seen:
            self._history.leases.append(seen)
