"""The record on the Lease survives a round trip, hostile text, and what it does not know."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgha.lsn import LSN, History, Position, Switch
from pgha.record import Promotion, Record, RecordError, Release, Waived

pytestmark = pytest.mark.unit

FULL = Record(
    term=7, revision=31, init="initialized", system_id=7712634284993847333, timeline=4,
    history=History((Switch(1, LSN(0x1000)), Switch(3, LSN.parse("1/F00")))), highest_number=5,
    promotion=Promotion(7, 4, "a-0/u/s", True), primary="a-0", primary_directory="d",
    voters=(("a-0", "d"), ("a-1", "e")), read_quorum=1, write_quorum=1, degraded=True,
    end=Position(3, LSN(99)), flushed=Position(4, LSN(100)),
    release=Release("a-0/u/s", 7, "a-1"), switched="x",
    waived=Waived("w1", 5, 6, "a-0", ("a-1", "a-2")), waiver_refused="w0",
)


def test_round_trip() -> None:
    assert Record.parse(FULL.dump()) == FULL
    assert Record.parse(None) == Record() == Record.parse("")


def test_unknown_keys_are_kept() -> None:
    text = json.dumps({**json.loads(FULL.dump()), "later": {"a": 1}})
    assert json.loads(Record.parse(text).dump())["later"] == {"a": 1}


def test_a_newer_record_is_refused() -> None:
    text = json.dumps({**json.loads(FULL.dump()), "minReader": 2})
    with pytest.raises(RecordError, match="update the operator image"):
        Record.parse(text)


@given(st.text())
def test_any_text_is_a_record_or_one_sentence(text: str) -> None:
    try:
        Record.parse(text)
    except RecordError as e:
        assert "\n" not in str(e)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"term": 1e999}', '{"readQuorum": Infinity}'])
def test_what_json_allows_and_nobody_can_hold_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        Record.parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner,
                                                                max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(FULL.dump()))), JSON))
def test_any_value_under_a_known_key_is_read_or_refused(changes: dict[str, object]) -> None:
    text = json.dumps({**json.loads(FULL.dump()), **changes})
    try:
        assert Record.parse(Record.parse(text).dump()) == Record.parse(text)
    except RecordError as e:
        assert "pgha.dev/record" in str(e) or "operator image" in str(e)


def test_another_directory_under_the_same_name_does_not_vote() -> None:
    assert FULL.votes("a-1", "e") and not FULL.votes("a-1", "f") and not FULL.votes("a-1", None)


def test_what_is_kept_and_cannot_be_read_is_replaced() -> None:
    assert FULL.outdates("{") and FULL.outdates(None)
