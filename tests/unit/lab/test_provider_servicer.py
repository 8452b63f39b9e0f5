"""The protocol: what the engine gets to see of checks, diffs and failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2, status_pb2

from lab.provider import wire
from lab.provider.checkpoint import state_of
from lab.provider.lifecycle import Lifecycle
from lab.provider.outcome import Refused, Settings, Unfinished
from lab.provider.servicer import Servicer
from tests.unit.lab.provider_cluster import URN, config_map

pytestmark = pytest.mark.unit


class Aborted(Exception):
    def __init__(self, text: str, metadata: tuple[tuple[str, bytes], ...]) -> None:
        super().__init__(text)
        self.metadata = dict(metadata)


class Context:
    async def abort(self, code: Any, text: str, metadata: Any = ()) -> None:
        raise Aborted(text, metadata)


def asked(call: Callable[[Servicer], Awaitable[Any]]) -> Any:
    """What a servicer that was started by nobody answers."""

    async def main() -> Any:
        return await call(Servicer("4.0.0", "127.0.0.1:1"))

    return asyncio.run(main())


def request(olds: dict[str, Any], news: dict[str, Any], **more: Any) -> Any:
    return provider_pb2.DiffRequest(
        urn=URN, olds=wire.struct(olds), news=wire.struct(news), **more
    )


def test_a_setting_that_it_cannot_honour_fails_the_check_of_the_provider() -> None:
    news = wire.struct({"renderYamlToDirectory": "out", "context": "lab"})
    found = asked(
        lambda each: each.CheckConfig(provider_pb2.CheckRequest(urn=URN, news=news), Context())
    )
    ((failure),) = found.failures
    assert failure.property == "renderYamlToDirectory"
    assert "LAB_PROVIDER=official" in failure.reason
    fine = wire.struct({"context": "lab"})
    found = asked(
        lambda each: each.CheckConfig(provider_pb2.CheckRequest(urn=URN, news=fine), Context())
    )
    assert not found.failures and found.inputs == fine


def test_another_cluster_replaces_the_provider() -> None:
    def kubeconfig(server: str) -> dict[str, Any]:
        return {"kubeconfig": f"current-context: c\ncontexts: [{{name: c, context: {{cluster: x}}"
                f"}}]\nclusters: [{{name: x, cluster: {{server: {server}}}}}]\n"}  # fmt: skip

    found = asked(
        lambda each: each.DiffConfig(request(kubeconfig("one"), kubeconfig("two")), Context())
    )
    assert found.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert (list(found.diffs), list(found.replaces)) == (["kubeconfig"], ["kubeconfig"])


def test_a_diff_names_each_change_and_what_it_does() -> None:
    old = config_map(a="1", gone="1")
    new = config_map(a="2", b="3")
    new["metadata"]["labels"] = {"x": "y"}
    state = state_of(old, old, old, "me")
    found = asked(lambda each: each.Diff(request(state, new), Context()))
    kinds = provider_pb2.PropertyDiff
    assert {path: (each.kind, each.inputDiff) for path, each in found.detailedDiff.items()} == {
        "data.a": (kinds.UPDATE_REPLACE, False),
        "data.b": (kinds.ADD_REPLACE, False),
        "data.gone": (kinds.DELETE_REPLACE, True),
        "metadata.labels": (kinds.ADD, False),
    }
    assert found.hasDetailedDiff and found.deleteBeforeReplace
    assert sorted(found.replaces) == ["data.a", "data.b", "data.gone"]
    found = asked(lambda each: each.Diff(request(state, old), Context()))
    assert found.changes == provider_pb2.DiffResponse.DIFF_NONE and not found.replaces


def test_a_change_that_is_ignored_is_none() -> None:
    old = config_map(a="1")
    state = state_of(old, old, old, "me")
    given = request(state, config_map(a="2"), ignoreChanges=["data"])
    found = asked(lambda each: each.Diff(given, Context()))
    assert found.changes == provider_pb2.DiffResponse.DIFF_NONE


def ended(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Aborted:
    async def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(Lifecycle, "update", fails)
    given = provider_pb2.UpdateRequest(urn=URN)
    with pytest.raises(Aborted) as aborted:
        asked(lambda each: each.Update(given, Context()))
    return aborted.value


def test_a_partial_failure_hands_over_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Unfinished("not live", "demo/settings", {"a": wire.Secret("1")}, ["why"])
    found = ended(monkeypatch, error)
    status = status_pb2.Status.FromString(found.metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (2, "not live")
    detail = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(detail)
    assert (detail.id, list(detail.reasons)) == ("demo/settings", ["not live", "why"])
    assert wire.parse(detail.properties) == {"a": wire.Secret("1")}
    assert not detail.HasField("inputs")


def test_a_failure_without_an_object_hands_over_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ended(monkeypatch, Refused("no"))
    assert str(found) == "no" and found.metadata == {}


def test_what_it_has_not_is_said() -> None:
    for call in (
        lambda each: each.Invoke(provider_pb2.InvokeRequest(tok="kubernetes:helm:f"), Context()),
        lambda each: each.GetSchema(provider_pb2.GetSchemaRequest(), Context()),
        lambda each: each.Construct(provider_pb2.ConstructRequest(type="t"), Context()),
    ):
        with pytest.raises(Aborted, match="the lab's stand-in provider has no"):
            asked(call)


def test_a_cancel_ends_the_waits_of_this_process() -> None:
    async def main() -> tuple[bool, bool]:
        servicer = Servicer("4.0.0", "127.0.0.1:1")
        before = servicer._pace.cancelled
        await servicer.Cancel(None, Context())
        return before, servicer._pace.cancelled

    assert asyncio.run(main()) == (False, True)


def test_the_settings_reach_the_verbs() -> None:
    async def main() -> Settings:
        servicer = Servicer("4.0.0", "127.0.0.1:1")
        await servicer.Configure(
            provider_pb2.ConfigureRequest(
                variables={"kubernetes:config:context": "lab"},
                args=wire.struct({"upsertExistingObjects": wire.Secret("true")}),
            ),
            Context(),
        )
        return servicer._settings

    found = asyncio.run(main())
    assert (found.context, found.upsert) == ("lab", True)
