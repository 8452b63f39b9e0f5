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

from lab.provider import awaits, conditions, kinds, pods
from lab.provider.api import ApiError, Kubernetes, NoSuchKind, Unreachable
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


def _passes(error: ApiError | Unreachable) -> bool:
    """Is the API away for a moment? Then an await goes on."""
    return isinstance(error, Unreachable) or error.status in (429, 500, 502, 503, 504)


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
        self._calls, self._pace, self.say = calls, pace, say

    async def until_ready(
        self, cluster: Kubernetes, urn: str, inputs: Object, live: Object, timeout: float,
        first: bool,
    ) -> Object:  # fmt: skip
        """The object once its await is content; NotReady on timeout, failure, refusal, cancel.

        Whatever ends the wait, the object is there: no error may leave without it.
        """
        if kinds.annotated_true(inputs, "skipAwait"):
            return live
        around = _Surroundings(self._calls, self._pace, first, live)
        try:
            check = conditions.of(live) or awaits.check_of(live)
            if check is None:
                return live
            return await self._until_ready(cluster, urn, inputs, live, timeout, check, around)
        except (ApiError, Unreachable, NoSuchKind, conditions.Unreadable) as error:
            raise NotReady(str(error), around.live, []) from error

    async def _until_ready(
        self, cluster: Kubernetes, urn: str, inputs: Object, live: Object, timeout: float,
        check: awaits.Check, around: _Surroundings,
    ) -> Object:  # fmt: skip
        seconds = awaits.limit(inputs, timeout, kinds.annotation(inputs, "timeoutSeconds"))
        end, told = self._pace.now() + seconds, float("-inf")
        name = live["metadata"]["name"]
        while True:
            ends = self._pace.cancelled or self._pace.now() >= end
            try:
                seen = await around.of(cluster, live)
                missing = check(live, awaits.at_last(seen) if ends else seen)
            except awaits.Failed as failure:
                message = f"Resource '{name}' was created but failed to initialize"
                raise NotReady(message, live, [str(failure)]) from failure
            except (ApiError, Unreachable) as error:
                if not _passes(error):
                    raise
                missing = [str(error)]
            if not missing:
                return live
            if self._pace.cancelled:
                reasons = missing + await self._complaints(cluster, live)
                raise NotReady(f'Resource operation was cancelled for "{name}"', live, reasons)
            if ends:
                reasons = missing + await self._complaints(cluster, live)
                raise NotReady(awaits.timed_out(live), live, reasons)
            if self._pace.now() - told >= TELL_SECONDS:
                told = self._pace.now()
                complaints = await self._complaints(cluster, live)
                await self.say(urn, "; ".join([*missing[:1], *complaints]))
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
        around = _Surroundings(self._calls, self._pace, False, live)
        try:
            missing = check(live, await around.of(cluster, live, settle=False))
        except awaits.Failed as failure:
            return [str(failure)]
        return missing and [*missing, *await self._complaints(cluster, live)]

    async def until_gone(self, cluster: Kubernetes, live: Object, seconds: float) -> None:
        """Returns when this very object is gone; NotReady on timeout, refusal or cancel."""
        end, uid = self._pace.now() + seconds, live["metadata"]["uid"]
        last = live
        while True:
            try:
                found = await self._look(cluster, last)
            except (ApiError, NoSuchKind) as error:
                raise NotReady(str(error), last, []) from error
            if found is None or found["metadata"]["uid"] != uid:
                return
            last = found
            if self._pace.cancelled or self._pace.now() >= end:
                held = ", ".join(found["metadata"].get("finalizers") or []) or "none"
                name = live["metadata"]["name"]
                raise NotReady(
                    f'timed out waiting for the condition: "{name}" is still there', found,
                    [f"finalizers might be preventing deletion ({held})"],
                )  # fmt: skip
            await self._pace.pause(LOOK_SECONDS)

    async def _look(self, cluster: Kubernetes, live: Object) -> Object | None:
        """The live object; as it was when the API is away for a moment."""
        try:
            return await self._calls(cluster.get, live)
        except (ApiError, Unreachable) as error:
            if not _passes(error):
                raise
            return live

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

    def __init__(self, calls: Calls, pace: Pace, first: bool, live: Object) -> None:
        self._calls, self._pace, self._first = calls, pace, first
        self.live = live
        """The object as it was looked at last."""
        self._seen: Any = None
        self._since = 0.0
        self._bind_late: bool | None = None

    async def of(self, cluster: Kubernetes, live: Object, settle: bool = True) -> awaits.Around:
        self.live = live
        if live["kind"] == "Service":
            return await self._endpoints(cluster, live, settle)
        if live["kind"] == "Deployment":
            return awaits.Around(replica_sets=await self._replica_sets(cluster, live))
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

    async def _replica_sets(self, cluster: Kubernetes, live: Object) -> list[Object]:
        metadata = live["metadata"]
        found = await self._calls(
            cluster.list, "apps/v1", "ReplicaSet", str(metadata.get("namespace") or "")
        )
        return [each for each in found if pods.is_owned(each, str(metadata.get("uid")))]

    async def _binds_late(self, cluster: Kubernetes, live: Object) -> bool | None:
        """None while the claim has no class yet; False where the class may not be read."""
        name = live["spec"].get("storageClassName")
        if not name:
            return None
        try:
            found = await self._calls(
                cluster.get,
                {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                 "metadata": {"name": name}},
            )  # fmt: skip
        except ApiError as error:
            if _passes(error):
                raise
            return False
        return (found or {}).get("volumeBindingMode") == "WaitForFirstConsumer"
