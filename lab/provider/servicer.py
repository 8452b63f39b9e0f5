"""The provider protocol: protobuf in, protobuf out. Owns nothing but the translation.

The SDK's own `pulumi.provider.experimental` loses what this provider must tell apart: a value
that is not known yet, and an object that is there although its await failed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, empty_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from lab.provider import kubeconfig, wire
from lab.provider.api import Api, Kubernetes
from lab.provider.differences import Change
from lab.provider.lifecycle import Lifecycle
from lab.provider.outcome import Refused, Settings, Unfinished, unsupported
from lab.provider.planning import Naming, Planning, provider_replacing
from lab.provider.waiting import Calls, Pace, Waiting

_CHANGE = provider_pb2.PropertyDiff
_KINDS = {"add": _CHANGE.ADD, "delete": _CHANGE.DELETE, "update": _CHANGE.UPDATE}
_REPLACING = {
    "add": _CHANGE.ADD_REPLACE,
    "delete": _CHANGE.DELETE_REPLACE,
    "update": _CHANGE.UPDATE_REPLACE,
}


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """One per process; the engine configures it once and then calls the verbs side by side."""

    def __init__(self, version: str, engine: str) -> None:
        self._version = version
        self._calls, self._pace = Calls(), Pace()
        self._lock = threading.Lock()
        self._api: Api | None = None
        channel = grpc.aio.insecure_channel(engine)
        self._engine: Any = engine_pb2_grpc.EngineStub(channel)
        self._set_up(Settings())

    def _set_up(self, settings: Settings) -> None:
        self._settings = settings
        waiting = Waiting(self._calls, self._pace, self._say)
        self._planning = Planning(settings, self._cluster)
        self._lifecycle = Lifecycle(settings, self._cluster, self._calls, self._pace, waiting)

    def _cluster(self) -> Kubernetes:
        """The connection, made when a verb first needs it: a preview may never do."""
        with self._lock:
            if self._api is None:
                given = self._settings
                target = kubeconfig.load(
                    given.kubeconfig, given.context, given.cluster, os.environ
                )
                self._api = Api(target)
            return self._api

    async def _say(self, urn: str, text: str) -> None:
        """A line of progress for the engine's display; nobody minds if it is lost."""
        line = engine_pb2.LogRequest(
            severity=engine_pb2.INFO, message=text, urn=urn, ephemeral=True
        )
        with contextlib.suppress(grpc.RpcError):
            await self._engine.Log(line)

    # -- the plugin -----------------------------------------------------------------------------

    async def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(
            accept_secrets=True, supports_autonaming_configuration=True
        )

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self._version)

    async def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    async def Cancel(self, request: Any, context: Any) -> Any:
        self._pace.cancel()
        return empty_pb2.Empty()

    async def GetSchema(self, request: Any, context: Any) -> Any:
        await _abort(context, "the lab's stand-in provider has no schema")

    async def Invoke(self, request: Any, context: Any) -> Any:
        await _abort(
            context,
            f"the lab's stand-in provider has no function {request.tok}: use the official "
            "provider, LAB_PROVIDER=official",
        )

    async def Construct(self, request: Any, context: Any) -> Any:
        await _abort(
            context,
            f"the lab's stand-in provider has no component {request.type}: use the official "
            "provider, LAB_PROVIDER=official",
        )

    async def Parameterize(self, request: Any, context: Any) -> Any:
        await _abort(context, "the lab's stand-in provider takes no parameters")

    async def GetMapping(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetMappingResponse()

    async def GetMappings(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetMappingsResponse()

    # -- its configuration ----------------------------------------------------------------------

    async def CheckConfig(self, request: Any, context: Any) -> Any:
        given = wire.revealed(wire.parse(request.news))
        failures = [
            provider_pb2.CheckFailure(property=name, reason=sentence)
            for name, sentence in unsupported(given)
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    async def DiffConfig(self, request: Any, context: Any) -> Any:
        olds = wire.revealed(wire.parse(request.olds))
        news = wire.revealed(wire.parse(request.news))
        changed = sorted(key for key in {*olds, *news} if olds.get(key) != news.get(key))
        return provider_pb2.DiffResponse(
            changes=_some(bool(changed)), diffs=changed,
            replaces=provider_replacing(olds, news, changed),
        )  # fmt: skip

    async def Configure(self, request: Any, context: Any) -> Any:
        prefix = "kubernetes:config:"
        variables = {k.removeprefix(prefix): v for k, v in request.variables.items()}
        self._set_up(Settings.of({**variables, **wire.revealed(wire.parse(request.args))}))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, supports_autonaming_configuration=True
        )

    # -- resources ------------------------------------------------------------------------------

    async def Check(self, request: Any, context: Any) -> Any:
        name = request.urn.split("::")[-1]
        naming = Naming(name, bytes(request.randomSeed))
        if request.HasField("autonaming"):
            asked = request.autonaming
            disabled = asked.mode == provider_pb2.CheckRequest.AutonamingOptions.DISABLE
            naming = Naming(name, naming.seed, asked.proposed_name, disabled)
        olds, news = wire.parse(request.olds), wire.parse(request.news)
        async with _told(context):
            inputs = await self._calls(
                self._planning.check, _type(request.urn), olds, news, naming
            )
            return provider_pb2.CheckResponse(inputs=wire.struct(inputs))

    async def Diff(self, request: Any, context: Any) -> Any:
        state, news = wire.parse(request.olds), wire.parse(request.news)
        async with _told(context):
            found = await self._calls(
                self._planning.diff, _type(request.urn), state, news, list(request.ignoreChanges)
            )
            replacing = [each.path for each in found.replacing]
            return provider_pb2.DiffResponse(
                changes=_some(bool(found.changes)),
                replaces=replacing,
                deleteBeforeReplace=found.delete_first,
                hasDetailedDiff=True,
                detailedDiff={
                    each.path: _property_diff(each, each in found.replacing)
                    for each in found.changes
                },
            )

    async def Create(self, request: Any, context: Any) -> Any:
        async with _told(context):
            identity, state = await self._lifecycle.create(
                request.urn, _type(request.urn), wire.parse(request.properties),
                request.timeout, request.preview,
            )  # fmt: skip
            return provider_pb2.CreateResponse(id=identity, properties=wire.struct(state))

    async def Read(self, request: Any, context: Any) -> Any:
        async with _told(context):
            identity, state, inputs = await self._lifecycle.read(
                _type(request.urn), request.id, wire.parse(request.properties),
                wire.parse(request.inputs),
            )  # fmt: skip
            if not identity:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(
                id=identity, properties=wire.struct(state), inputs=wire.struct(inputs)
            )

    async def Update(self, request: Any, context: Any) -> Any:
        async with _told(context):
            state = await self._lifecycle.update(
                request.urn, _type(request.urn), wire.parse(request.olds),
                wire.parse(request.news), request.timeout, list(request.ignoreChanges),
                request.preview,
            )  # fmt: skip
            return provider_pb2.UpdateResponse(properties=wire.struct(state))

    async def Delete(self, request: Any, context: Any) -> Any:
        async with _told(context):
            await self._lifecycle.delete(
                _type(request.urn), request.id, wire.parse(request.properties), request.timeout
            )
            return empty_pb2.Empty()


def _type(urn: str) -> str:
    """`urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME` -> TYPE."""
    return urn.split("::")[2].rpartition("$")[2]


def _some(changed: bool) -> Any:
    diff = provider_pb2.DiffResponse
    return diff.DIFF_SOME if changed else diff.DIFF_NONE


def _property_diff(change: Change, replaces: bool) -> Any:
    kind = (_REPLACING if replaces else _KINDS)[change.how]
    return provider_pb2.PropertyDiff(kind=kind, inputDiff=change.how == "delete")


@contextlib.asynccontextmanager
async def _told(context: Any) -> Any:
    """What a verb ends with, as the engine wants to hear it."""
    try:
        yield
    except Unfinished as error:
        detail = provider_pb2.ErrorResourceInitFailed(
            id=error.identity, properties=wire.struct(error.state), reasons=error.reasons,
            inputs=wire.struct(error.inputs) if error.inputs is not None else None,
        )  # fmt: skip
        packed = any_pb2.Any()
        packed.Pack(detail)
        status = status_pb2.Status(code=2, message=str(error), details=[packed])
        await context.abort(
            grpc.StatusCode.UNKNOWN, str(error),
            (("grpc-status-details-bin", status.SerializeToString()),),
        )  # fmt: skip
    except Refused as error:
        await context.abort(grpc.StatusCode.UNKNOWN, str(error))


async def _abort(context: Any, text: str) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)
    raise AssertionError("abort raises")
