"""Messages between members: every one survives the wire, and nonsense is one sentence."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgha.peers.messages import (
    MAX_HISTORY,
    EarlyVoteRequest,
    MemberStatus,
    PromiseAnswer,
    PromiseRequest,
    ReleaseNotice,
    VoteAnswer,
    VoteRequest,
    parse,
    to_json,
)

pytestmark = pytest.mark.unit

KINDS = [
    EarlyVoteRequest, MemberStatus, PromiseAnswer, PromiseRequest, ReleaseNotice, VoteAnswer,
    VoteRequest,
]
TEXT = st.text(max_size=20)
NUMBER = st.integers(0, 2**63 - 1)
BY_TYPE = {
    "str": TEXT, "int": NUMBER, "bool": st.booleans(), "str | None": TEXT | st.none(),
    "int | None": NUMBER | st.none(), "float": st.floats(0, 1e6),
    "float | None": st.floats(0, 1e6) | st.none(),
}  # fmt: skip


def messages(kind: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{f.name: BY_TYPE[str(f.type)] for f in dataclasses.fields(kind)})


@given(st.sampled_from(KINDS).flatmap(messages))
def test_they_survive_the_wire(message: Any) -> None:
    wire = json.loads(json.dumps(to_json(message)))
    assert parse(type(message), {**wire, "a key of a later version": [1]}) == message


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, 'VoteRequest lacks "term"'),
        ({"term": "7", "candidate": "a", "incarnation": "i"}, '"term" must be a number'),
        ({"term": 7.5, "candidate": "a", "incarnation": "i"}, '"term" must be a whole number'),
        ({"term": True, "candidate": "a", "incarnation": "i"}, '"term" must be a number'),
        ({"term": -1, "candidate": "a", "incarnation": "i"}, '"term" is out of range'),
        ({"term": 2**63, "candidate": "a", "incarnation": "i"}, '"term" is out of range'),
        ({"term": None, "candidate": "a", "incarnation": "i"}, '"term" must not be null'),
        ({"term": 7, "candidate": ["a"], "incarnation": "i"}, '"candidate" must be a text'),
        ({"term": 7, "candidate": "a" * 2000, "incarnation": "i"}, '"candidate" is longer'),
    ],
)
def test_nonsense_is_one_sentence(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(VoteRequest, body)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_absurd_seconds(value: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse(PromiseRequest, {"holder": "h", "term": 1, "seconds": value})


def test_flags_are_flags() -> None:
    with pytest.raises(ValueError, match="true or false"):
        parse(VoteAnswer, {"granted": 1, "name": "a"})


def test_histories_may_be_long_but_not_endless() -> None:
    parse(VoteAnswer, {"granted": True, "name": "a", "history_text": "x" * MAX_HISTORY})
    with pytest.raises(ValueError, match="longer"):
        parse(VoteAnswer, {"granted": True, "name": "a", "history_text": "x" * (MAX_HISTORY + 1)})


def test_an_older_member_says_less() -> None:
    status = parse(MemberStatus, {"name": "a", "uid": "u", "incarnation": "i"})
    assert status.lsn is None and not status.healthy and status.directory_state == "unknown"
