"""Runs the program's component under Pulumi's mocks and keeps what it declared.

Owns the recording; asserts nothing. Each run is on an event loop of its own, so that tests may
run in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc, settings
from pulumi.runtime import stack as runtime_stack
from pulumi.runtime.proto import engine_pb2, resource_pb2

from components.cluster import PostgresCluster
from components.config.stack import cluster_config
from components.live.standing import Standing

STACK = "pgha/test"
SEED: Mapping[str, Any] = {
    "name": "ha-mssqlserver",
    "namespace": "demo",
    "appName": "mssqlserveres.kubedb.com",
    "version": "13.13",
    "username": "mssqlserver",
    "database": "mssqlserver",
    "storage": {"storageClassName": "standard", "resources": {"requests": {"storage": "1Gi"}}},
}


@dataclass(frozen=True)
class Declared:
    """One resource as the engine was asked to register it."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    request: resource_pb2.RegisterResourceRequest

    @property
    def kind(self) -> str:
        return self.type.rpartition(":")[2]


@dataclass
class Run:
    """Everything that one run declared, and its outputs."""

    resources: list[Declared] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def one(self, kind: str, name: str) -> Declared:
        found = [r for r in self.resources if r.kind == kind and r.name == name]
        assert len(found) == 1, f"{kind} {name}: {[(r.kind, r.name) for r in self.resources]}"
        return found[0]

    def names(self, kind: str) -> set[str]:
        return {r.name for r in self.resources if r.kind == kind}

    def spec(self, kind: str, name: str) -> Any:
        return self.one(kind, name).inputs["spec"]


class _Recorder(mocks.Mocks):
    """Stashes give what is in `stashed`, the state of an earlier run, else their input."""

    def __init__(self, stashed: Mapping[str, Any]) -> None:
        self._stashed = stashed

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        state = dict(args.inputs)
        if args.typ == "pulumi:index:Stash":
            state["output"] = self._stashed.get(args.name, args.inputs["input"])
        return f"{args.name}-id", state

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}: a preview must not need a cluster")


class _Monitor(mocks.MockMonitor):
    """The mock engine, keeping each request."""

    def __init__(self, run: Run, stashed: Mapping[str, Any]) -> None:
        super().__init__(_Recorder(stashed))
        self._run = run

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802
        inputs = rpc.deserialize_properties(request.object)
        self._run.resources.append(Declared(request.type, request.name, _revealed(inputs), request))
        return super().RegisterResource(request)


class _Engine(mocks.MockEngine):
    def __init__(self, run: Run) -> None:
        super().__init__(None)
        self._run = run

    def Log(self, request: Any) -> Any:  # noqa: N802
        if request.severity == engine_pb2.WARNING:
            self._run.warnings.append(request.message)
        return super().Log(request)


def _revealed(value: Any) -> Any:
    """The value without its secret wrapping."""
    if rpc.is_rpc_secret(value):
        return _revealed(rpc.unwrap_rpc_secret(value))
    if isinstance(value, Mapping):
        return {key: _revealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_revealed(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def declare(
    standing: Standing | None = None,
    now: datetime | None = None,
    after: Run | None = None,
    run: Run | None = None,
    **config: Any,
) -> Run:
    """What the program declares for the seed's stack with these keys changed, at the time `now`,
    with the stashes that the run `after` left in the state. `run` is filled even if it fails."""
    run = run or Run()
    stashes = [r for r in after.resources if r.kind == "Stash"] if after else []
    stashed = {r.name: r.inputs["input"] for r in stashes}
    made = cluster_config({**SEED, **config}, "test")

    async def program() -> None:
        settings.configure(
            settings.Settings(
                project="pgha", stack="test", monitor=_Monitor(run, stashed), engine=_Engine(run)
            )
        )
        await runtime_stack.run_pulumi_func(lambda: _body(run, made, standing, now))

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(program())
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return run


def _body(run: Run, config: Any, standing: Standing | None, now: datetime | None) -> None:
    runtime_stack.Stack(lambda: None)
    cluster = PostgresCluster(config.name, config, standing or Standing(STACK), now=now)

    def keep(key: str) -> Any:
        def kept(value: Any) -> None:
            run.outputs[key] = value

        return kept

    def mark(key: str) -> Any:
        def marked(value: bool) -> None:
            if value:
                run.secret_outputs.add(key)

        return marked

    for key, value in cluster.outputs.items():
        output = pulumi.Output.from_input(value)
        output.apply(keep(key))
        pulumi.Output.from_input(output.is_secret()).apply(mark(key))
