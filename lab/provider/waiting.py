"""Waiting for the cluster. Owns the loop: looks, reports, gives up on time or when cancelled.

What counts as ready is in `awaits`; why pods are not is in `pods`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from lab.provider import awaits, kinds, pods
from lab.provider.api import ApiError, Kubernetes, Unreachable
from lab.provider.outcome import Say

Object = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

LOOK_SECONDS = 0.4
TELL_SECONDS = 5.0


class NotReady(Exception):
    """An await ended without success; `live` is the object as it was seen last."""

    def __init__(self, message: str, live: Object, reasons: list[str]) -> None:
        super().__init__(message)
        self.live, self.reasons = live, reasons


class Pace:
    """Time for the awaits, and their end when the engine cancels."""

    def __init__(self) -> None:
        self._cancelled = asyncio.Event()

    def now(self) -> float:
        return time.monotonic()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but wake up at once when cancelled."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._cancelled.wait(), seconds)


class Calls:
    """The cluster's blocking calls in threads; a call lost to the network is made again later."""

    def __init__(self, workers: int = 32) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="api")

    async def __call__(
        self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        call = partial(function, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


class Waiting:
    """Awaits of one provider process."""

    def __init__(self, calls: Calls, pace: Pace, say: Say) -> None:
        self._calls, self._pace, self._say = calls, pace, say

    async def until_ready(
        self, cluster: Kubernetes, urn: str, inputs: Object, live: Object, timeout: float,
        first: bool,
    ) -> Object:  # fmt: skip
        """The object once its kind's await is content; NotReady on timeout, failure or cancel."""
        check = awaits.check_of(live)
        if check is None or kinds.annotated_true(inputs, "skipAwait"):
            return live
        seconds = awaits.limit(inputs, timeout, kinds.annotation(inputs, "timeoutSeconds"))
        end, told = self._pace.now() + seconds, float("-inf")
        around = _Surroundings(self._calls, self._pace, first)
        name = live["metadata"]["name"]
        while True:
            try:
                missing = check(live, await around.of(cluster, live))
            except awaits.Failed as failure:
                message = f"Resource '{name}' was created but failed to initialize"
                raise NotReady(message, live, [str(failure)]) from failure
            if not missing:
                return live
            if self._pace.cancelled:
                reasons = missing + await self._complaints(cluster, live)
                raise NotReady(f'Resource operation was cancelled for "{name}"', live, reasons)
            if self._pace.now() >= end:
                reasons = missing + await self._complaints(cluster, live)
                raise NotReady(f"'{name}' timed out waiting to be Ready", live, reasons)
            if self._pace.now() - told >= TELL_SECONDS:
                told = self._pace.now()
                complaints = await self._complaints(cluster, live)
                await self._say(urn, "; ".join([*missing[:1], *complaints]))
            await self._pace.pause(LOOK_SECONDS)
            found = await self._look(cluster, live)
            if found is None:
                raise NotReady(f"'{name}' was deleted while it was waited for", live, missing)
            live = found

    async def once(self, cluster: Kubernetes, inputs: Object, live: Object) -> list[str]:
        """What a refresh finds missing; empty if the object is ready."""
        check = awaits.read_check_of(live)
        if check is None or kinds.annotated_true(inputs, "skipAwait"):
            return []
        around = _Surroundings(self._calls, self._pace, first=False)
        try:
            missing = check(live, await around.of(cluster, live, settle=False))
        except awaits.Failed as failure:
            return [str(failure)]
        return missing and [*missing, *await self._complaints(cluster, live)]

    async def until_gone(self, cluster: Kubernetes, live: Object, seconds: float) -> None:
        """Returns when this very object is gone; NotReady on timeout or cancel."""
        end, uid = self._pace.now() + seconds, live["metadata"]["uid"]
        while True:
            found = await self._look(cluster, live)
            if found is None or found["metadata"]["uid"] != uid:
                return
            name = live["metadata"]["name"]
            if self._pace.cancelled:
                raise NotReady(f'Resource operation was cancelled for "{name}"', found, [])
            if self._pace.now() >= end:
                held = ", ".join(found["metadata"].get("finalizers") or []) or "none"
                raise NotReady(
                    f"'{name}' timed out waiting to be deleted after {seconds:g} s", found,
                    [f"finalizers might be preventing deletion ({held})"],
                )  # fmt: skip
            await self._pace.pause(LOOK_SECONDS)

    async def _look(self, cluster: Kubernetes, live: Object) -> Object | None:
        """The live object; as it was when the API is away for a moment."""
        try:
            return await self._calls(cluster.get, live)
        except Unreachable:
            return live
        except ApiError as error:
            if error.status in (429, 500, 502, 503, 504):
                return live
            raise

    async def _complaints(self, cluster: Kubernetes, live: Object) -> list[str]:
        if live["kind"] not in ("StatefulSet", "Deployment", "DaemonSet", "Job", "Pod"):
            return []
        metadata = live["metadata"]
        if live["kind"] == "Pod":
            return pods.complaints([live])
        labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        try:
            found = await self._calls(
                cluster.list, "v1", "Pod", str(metadata.get("namespace")), selector
            )
        except (ApiError, Unreachable):
            return []
        return pods.complaints(pods.owned(found, live))


class _Surroundings:
    """What an await sees beside its object; remembers when a Service's endpoints changed last."""

    def __init__(self, calls: Calls, pace: Pace, first: bool) -> None:
        self._calls, self._pace, self._first = calls, pace, first
        self._seen: Any = None
        self._since = 0.0
        self._bind_late: bool | None = None

    async def of(self, cluster: Kubernetes, live: Object, settle: bool = True) -> awaits.Around:
        if live["kind"] == "Service":
            return await self._endpoints(cluster, live, settle)
        if live["kind"] == "PersistentVolumeClaim" and self._bind_late is None:
            self._bind_late = await self._binds_late(cluster, live)
        return awaits.Around(bind_late=bool(self._bind_late), first=self._first)

    async def _endpoints(
        self, cluster: Kubernetes, live: Object, settle: bool
    ) -> awaits.Around:
        metadata = live["metadata"]
        slices = await self._calls(
            cluster.list, "discovery.k8s.io/v1", "EndpointSlice", metadata["namespace"],
            f"kubernetes.io/service-name={metadata['name']}",
        )  # fmt: skip
        seen = [each.get("endpoints") for each in slices]
        if self._seen is None or seen != self._seen:
            self._seen, self._since = seen, self._pace.now()
        still = self._pace.now() - self._since >= awaits.SETTLE_SECONDS
        return awaits.Around(endpoints=slices, settled=still or not settle, first=self._first)

    async def _binds_late(self, cluster: Kubernetes, live: Object) -> bool | None:
        name = live["spec"].get("storageClassName")
        if not name:
            return None
        found = await self._calls(
            cluster.get,
            {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}},
        )
        return (found or {}).get("volumeBindingMode") == "WaitForFirstConsumer"
