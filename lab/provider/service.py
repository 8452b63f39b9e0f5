"""The provider's verbs: check, diff, create, read, update, delete. Owns order and messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import pulumi.provider.experimental.provider as p
from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError
from pulumi.provider.experimental.property_value import PropertyValue

from lab.provider import awaits, kinds
from lab.provider.cluster import MANAGER, Cluster, sentence
from lab.provider.values import (
    INPUTS,
    differences,
    has_unknown,
    plain,
    project,
    without_nulls,
    wrap,
)

Properties = Mapping[str, PropertyValue]
LOOK = 0.4  # seconds between two looks of an await
_KINDS = {"add": p.PropertyDiffKind.ADD, "delete": p.PropertyDiffKind.DELETE,
          "update": p.PropertyDiffKind.UPDATE}
_REPLACING = {"add": p.PropertyDiffKind.ADD_REPLACE, "delete": p.PropertyDiffKind.DELETE_REPLACE,
              "update": p.PropertyDiffKind.UPDATE_REPLACE}


class KubernetesStandIn(p.Provider):
    """One per engine process; the cluster is reached only when a verb needs it."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._made: Cluster | None = None
        self._cancelled = asyncio.Event()

    @property
    def _cluster(self) -> Cluster:
        if self._made is None:
            self._made = Cluster(self._settings)
        return self._made

    async def check_config(self, request: p.CheckRequest) -> p.CheckResponse:
        return p.CheckResponse(inputs=request.new_inputs)

    async def diff_config(self, request: p.DiffRequest) -> p.DiffResponse:
        return p.DiffResponse(changes=False)

    async def configure(self, request: p.ConfigureRequest) -> p.ConfigureResponse:
        self._settings = plain(PropertyValue(dict(request.args)))
        return p.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: p.CheckRequest) -> p.CheckResponse:
        """Names what has no name; takes a name that was made before."""
        inputs = dict(request.new_inputs)
        given = plain(inputs.get("metadata", PropertyValue({})))
        if not isinstance(given, dict) or given.get("name") is not None:
            return p.CheckResponse(inputs=inputs)
        old = plain(request.old_inputs.get("metadata", PropertyValue({}))) or {}
        name = old.get("name") or f"{request.name}-{request.random_seed.hex()[:8] or '0'}"
        metadata = inputs.get("metadata", PropertyValue({})).value
        assert isinstance(metadata, Mapping)
        inputs["metadata"] = PropertyValue({**metadata, "name": PropertyValue(str(name))})
        return p.CheckResponse(inputs=inputs)

    async def diff(self, request: p.DiffRequest) -> p.DiffResponse:
        old = plain(request.old_state.get(INPUTS, PropertyValue({}))) or {}
        new = plain(PropertyValue(dict(request.new_inputs)))
        found = differences(old, new)
        kind = str(new.get("kind", ""))
        replaced = [path for path in found if kinds.replaces(kind, path)]
        return p.DiffResponse(
            changes=bool(found),
            replaces=replaced,
            diffs=sorted({path.split(".")[0].split("[")[0] for path in found}),
            # Two objects of one name cannot be there at once.
            delete_before_replace=bool(replaced),
            detailed_diff={
                path: p.PropertyDiff((_REPLACING if path in replaced else _KINDS)[how], True)
                for path, how in found.items()
            },
        )

    async def create(self, request: p.CreateRequest) -> p.CreateResponse:
        obj = _object(request.properties)
        if request.preview or has_unknown(obj):
            return p.CreateResponse(resource_id="", properties=dict(request.properties))
        if kinds.is_patch(request.type):
            live = await self._patched(obj)
        else:
            live = await self._created(obj)
        live = await self._ready(obj, live, request.timeout)
        return p.CreateResponse(kinds.identity(obj), _outputs(live, request.properties))

    async def _created(self, obj: dict[str, Any]) -> dict[str, Any]:
        what = f"{obj['kind']} {kinds.identity(obj)}"
        there = await self._call(what, self._cluster.get, obj)
        if there is not None and not _true(self._settings.get("upsertExistingObjects")):
            raise Exception(
                f"resource {kinds.identity(obj)} was not successfully created by the Kubernetes "
                f"API server: {what} already exists"
            )
        if there is None:
            # Made by a plain create, so that of two creators one fails; then applied, so that
            # the fields are ours to change and to remove.
            with contextlib.suppress(ConflictError):
                await self._call(what, self._cluster.create, obj)
        live: dict[str, Any] = await self._call(what, self._cluster.apply, obj, True)
        if there is None:
            live = await self._call(what, self._cluster.disown_create, obj)
        return live

    async def _patched(self, obj: dict[str, Any]) -> dict[str, Any]:
        force = _true(kinds.annotation(obj, "patchForce"))
        manager = kinds.annotation(obj, "patchFieldManager") or MANAGER
        live: dict[str, Any] = await self._call(
            f"{obj['kind']} {kinds.identity(obj)}", self._cluster.apply, obj, force, manager
        )
        return live

    async def update(self, request: p.UpdateRequest) -> p.UpdateResponse:
        obj = _object(request.news)
        if request.preview or has_unknown(obj):
            return p.UpdateResponse(properties=dict(request.news))
        force = _true(kinds.annotation(obj, "patchForce"))
        if kinds.is_patch(request.type):
            live = await self._patched(obj)
        else:
            live = await self._call(
                f"{obj['kind']} {kinds.identity(obj)}", self._cluster.apply, obj, force
            )
        live = await self._ready(obj, live, request.timeout)
        return p.UpdateResponse(_outputs(live, request.news))

    async def read(self, request: p.ReadRequest) -> p.ReadResponse:
        obj = _object(request.inputs) or _object(request.properties)
        if not obj.get("metadata", {}).get("name"):
            obj = _imported(request)
        live = await self._call(kinds.identity(obj), self._cluster.get, obj)
        if live is None:
            return p.ReadResponse(resource_id="")
        inputs = {k: wrap(v, k in _SECRET.get(str(live["kind"]), ()))
                  for k, v in _live_inputs(live, obj, bool(request.inputs)).items()}
        return p.ReadResponse(kinds.identity(live), _outputs(live, inputs), inputs)

    async def delete(self, request: p.DeleteRequest) -> None:
        obj = _object(request.properties)
        what = f"{obj['kind']} {kinds.identity(obj)}"
        if kinds.is_patch(request.type):
            bare = {k: obj[k] for k in ("apiVersion", "kind")}
            bare["metadata"] = {k: obj["metadata"][k] for k in ("name", "namespace")
                                if obj["metadata"].get(k)}
            manager = kinds.annotation(obj, "patchFieldManager") or MANAGER
            if await self._call(what, self._cluster.get, bare) is not None:
                await self._call(what, self._cluster.apply, bare, True, manager)
            return
        live = await self._call(what, self._cluster.get, obj)
        if live is None:
            return
        uid = live["metadata"]["uid"]
        await self._call(what, self._cluster.delete, obj)
        if _true(kinds.annotation(obj, "skipAwait")):
            return
        limit = _limit(obj, request.timeout)
        async with _deadline(limit, f"{what} is still there {limit:.0f} s after its deletion"):
            while True:
                live = await self._call(what, self._cluster.get, obj)
                if live is None or live["metadata"]["uid"] != uid:
                    return
                await self._pause()

    async def cancel(self) -> None:
        self._cancelled.set()

    # -- waiting --------------------------------------------------------------------------------

    async def _ready(
        self, obj: dict[str, Any], live: dict[str, Any], timeout: float
    ) -> dict[str, Any]:
        if _true(kinds.annotation(obj, "skipAwait")):
            return live
        limit, why = _limit(obj, timeout), awaits.pending(live)
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        while why is not None:
            if loop.time() > end or self._cancelled.is_set():
                until = "cancelled" if self._cancelled.is_set() else f"after {limit:.0f} s"
                raise Exception(
                    f"resource {kinds.identity(obj)} was successfully created, but the Kubernetes "
                    f"API server reported that it failed to fully initialize or become live: "
                    f"{why}, {until}\n{await self._unready(live)}".rstrip()
                )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._cancelled.wait(), LOOK)
            found = await self._call(kinds.identity(obj), self._cluster.get, obj)
            if found is None:
                raise Exception(f"{obj['kind']} {kinds.identity(obj)} was deleted meanwhile")
            live = found
            pieces = await self._endpoints(live) if live["kind"] == "Service" else []
            why = awaits.pending(live, pieces)
        return live

    async def _pause(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._cancelled.wait(), LOOK)
        if self._cancelled.is_set():
            raise Exception("the operation was cancelled")

    async def _endpoints(self, service: dict[str, Any]) -> list[dict[str, Any]]:
        metadata = service["metadata"]
        found: list[dict[str, Any]] = await self._call(
            metadata["name"], self._cluster.listed, "discovery.k8s.io/v1", "EndpointSlice",
            metadata["namespace"], f"kubernetes.io/service-name={metadata['name']}",
        )
        return found

    async def _unready(self, live: dict[str, Any]) -> str:
        labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels")
        if not labels:
            return ""
        selector = ",".join(f"{k}={v}" for k, v in labels.items())
        pods = await self._call(
            "pods", self._cluster.listed, "v1", "Pod", live["metadata"]["namespace"], selector
        )
        return awaits.unready(pods)

    async def _call(self, what: str, function: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(function, *arguments)
        except ConflictError:
            raise
        except DynamicApiError as e:
            raise Exception(f"{what}: {sentence(e)}") from e


_SECRET = {"Secret": ("data", "stringData")}
_SERVER_SIDE = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
                "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds")


def _object(properties: Properties) -> dict[str, Any]:
    """The declared object: the kept inputs of a state, or the inputs themselves."""
    kept = properties.get(INPUTS)
    found = plain(kept) if kept is not None else plain(PropertyValue(dict(properties)))
    return without_nulls(found) if isinstance(found, dict) else {}


def _outputs(live: dict[str, Any], inputs: Properties) -> dict[str, PropertyValue]:
    secret = _SECRET.get(str(live.get("kind")), ())
    kept = {k: v for k, v in inputs.items() if k != INPUTS}
    return {
        **{k: wrap(v, k in secret) for k, v in live.items()},
        INPUTS: PropertyValue(kept, is_secret=bool(secret)),
    }


def _live_inputs(live: dict[str, Any], obj: dict[str, Any], known: bool) -> dict[str, Any]:
    if not known:
        found = {k: v for k, v in live.items() if k != "status"}
        found["metadata"] = {
            k: v for k, v in live["metadata"].items() if k not in _SERVER_SIDE
        }
        return found
    seen: dict[str, Any] = project(live, obj)
    if "stringData" in obj:  # the API never returns it
        seen["stringData"] = obj["stringData"]
    return seen


def _imported(request: p.ReadRequest) -> dict[str, Any]:
    """`pulumi import` knows the id and the type alone."""
    _, module, kind = request.type.split(":")
    group, version = module.split("/")
    namespace, _, name = request.resource_id.rpartition("/")
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    api = version if group in ("core", "") else f"{group}/{version}"
    return {"apiVersion": api, "kind": kind, "metadata": metadata}


def _limit(obj: dict[str, Any], timeout: float) -> float:
    given = kinds.annotation(obj, "timeoutSeconds")
    if given is not None and given.isdigit():
        return float(given)
    return timeout or awaits.DEFAULT_SECONDS


def _true(value: Any) -> bool:
    return str(value).lower() == "true"


@contextlib.asynccontextmanager
async def _deadline(seconds: float, message: str) -> Any:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as e:
        raise Exception(message) from e
