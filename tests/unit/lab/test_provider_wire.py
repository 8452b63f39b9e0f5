"""The engine's values, as trees and back: secrets stay secret, unknowns unknown."""

from __future__ import annotations

import pytest
from google.protobuf import json_format, struct_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime import rpc

from lab.provider import wire
from lab.provider.checkpoint import (
    imported,
    initial_version_of,
    inputs_of,
    live_of,
    manager_of,
    state_of,
)
from lab.provider.wire import UNKNOWN, Secret

pytestmark = pytest.mark.unit

SCALARS = st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=8)
TREES = st.recursive(
    SCALARS | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    | inner.map(Secret),
    max_leaves=12,
)


def test_the_marks_are_the_sdks_own() -> None:
    assert wire.SIGNATURE == rpc._special_sig_key
    assert wire.SECRET == rpc._special_secret_sig
    assert wire.OUTPUT == rpc._special_output_value_sig
    assert wire.UNKNOWN_STRING == rpc.UNKNOWN


@given(st.dictionaries(st.text(max_size=5), TREES, max_size=4))
def test_a_tree_survives_the_way_to_the_engine_and_back(tree: dict[str, object]) -> None:
    assert wire.parse(wire.struct(tree)) == tree


def test_every_kind_of_unknown_is_one() -> None:
    for mark in wire.UNKNOWNS:
        struct = struct_pb2.Struct()
        json_format.ParseDict({"a": {"b": [mark]}}, struct)
        assert wire.has_unknown(wire.parse(struct))


def test_an_output_value_is_read_with_its_secrecy() -> None:
    struct = struct_pb2.Struct()
    json_format.ParseDict(
        {
            "known": {wire.SIGNATURE: wire.OUTPUT, "value": "x", "secret": True},
            "unknown": {wire.SIGNATURE: wire.OUTPUT},
        },
        struct,
    )
    assert wire.parse(struct) == {"known": Secret("x"), "unknown": UNKNOWN}


def test_an_asset_is_refused() -> None:
    struct = struct_pb2.Struct()
    json_format.ParseDict({"a": {wire.SIGNATURE: "c44067f5952c0a294b673a41bacd8c17"}}, struct)
    with pytest.raises(ValueError, match="cannot hold an asset"):
        wire.parse(struct)


def test_outputs_are_secret_where_the_inputs_are() -> None:
    outputs = {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}, "list": [1], "more": "x"}
    inputs = {"data": {"a": Secret("1"), "b": "2"}, "list": [Secret(1)]}
    assert wire.marked(outputs, inputs) == {
        "kind": "ConfigMap", "data": {"a": Secret("1"), "b": "2"},
        "list": Secret([1]), "more": "x",
    }  # fmt: skip


def test_the_data_of_a_secret_is_secret_whatever_the_inputs_say() -> None:
    state = state_of(
        {"apiVersion": "v1", "kind": "Secret", "data": {"k": "djE="},
         "metadata": {"name": "s"}},
        {"apiVersion": "v1", "kind": "Secret", "data": {"k": "djE="}, "metadata": {"name": "s"}},
        {"data": {"k": "djE="}}, "me",
    )  # fmt: skip
    assert state["data"] == Secret({"k": "djE="})
    assert state["__inputs"]["data"] == Secret({"k": "djE="})
    assert inputs_of(state)["data"] == {"k": "djE="}
    assert live_of(state)["data"] == {"k": "djE="}
    assert "__inputs" not in live_of(state)
    assert manager_of(state) == "me"


def test_the_state_holds_the_live_object_whole_and_how_it_was_made() -> None:
    live = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "foreign": "2"},
            "metadata": {"name": "c", "uid": "u", "managedFields": [{}]}}  # fmt: skip
    inputs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    state = state_of(live, inputs, inputs, "me")
    assert state == {**live, "__inputs": inputs, "__initialApiVersion": "v1",
                     "__fieldManager": "me"}  # fmt: skip
    later = state_of(live, {**inputs, "apiVersion": "v2"}, inputs, "me", initial_version_of(state))
    assert later["__initialApiVersion"] == "v1"


def test_of_a_custom_kind_only_the_identity_is_imported() -> None:
    live = {"apiVersion": "example.dev/v1", "kind": "Thing", "spec": {"a": 1},
            "metadata": {"name": "t", "namespace": "demo", "labels": {"a": "1"}}}  # fmt: skip
    assert imported(live) == {"apiVersion": "example.dev/v1", "kind": "Thing",
                              "metadata": {"name": "t", "namespace": "demo"}}  # fmt: skip
