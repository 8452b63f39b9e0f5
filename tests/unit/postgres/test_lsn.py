"""Positions, histories, and one history against another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgha.lsn import LSN, History, Position, Switch, branch

pytestmark = pytest.mark.unit

lsns = st.integers(0, 2**64 - 1).map(LSN)


@st.composite
def lineages(draw: st.DrawFn) -> tuple[History, int]:
    """A timeline with its ancestors: numbers grow, and so do the points of the switches."""
    timelines = sorted(draw(st.sets(st.integers(1, 2**32 - 1), min_size=1, max_size=6)))
    points = sorted(draw(st.lists(lsns, min_size=len(timelines), max_size=len(timelines))))
    switches = [Switch(t, at) for t, at in zip(timelines, points, strict=True)]
    return History(switches[:-1]), timelines[-1]


@given(lsns)
def test_an_lsn_reads_what_it_prints(at: LSN) -> None:
    assert LSN.parse(str(at)) == at
    assert LSN.parse(f" {str(at).lower()}\n") == at


def test_an_lsn_prints_as_postgresql_does() -> None:
    assert str(LSN(0x3000060)) == "0/3000060"
    assert str(LSN((0xA << 32) + 0xBC012)) == "A/BC012"
    assert LSN.parse("0/03000060") == 0x3000060  # as pg_waldump writes


@given(st.text(max_size=30))
def test_what_is_no_lsn_is_refused(text: str) -> None:
    try:
        LSN.parse(text)
    except ValueError as e:
        assert "is no LSN" in str(e)
    else:
        high, low = text.strip().split("/")
        assert 0 <= int(high, 16) < 2**32 and 0 <= int(low, 16) < 2**32


@given(lineages())
def test_a_history_reads_what_it_prints(lineage: tuple[History, int]) -> None:
    history, _ = lineage
    assert History.parse(history.text()) == history


def test_a_history_of_postgresql() -> None:
    text = "# made by hand\n\n1\t0/3000158\tno recovery target specified\n" \
           "2\t0/40000A0\tat restore point \"a # b\"\n"  # fmt: skip
    assert History.parse(text) == (Switch(1, LSN(0x3000158)), Switch(2, LSN(0x40000A0)))


@given(st.text(alphabet="0123456789ABCDEF/\t\n #x²", max_size=80) | st.text(max_size=80))
def test_any_text_is_a_history_or_refused(text: str) -> None:
    try:
        history = History.parse(text)
    except ValueError:
        return
    numbers = [s.timeline for s in history]
    assert numbers == sorted(set(numbers)) and all(0 < n < 2**32 for n in numbers)


@pytest.mark.parametrize("text", [
    "0\t0/1\tx\n", "2\t0/1\tx\n1\t0/2\tx\n", "1\t0/1\n1\t0/2\n", "1\n", "1\tx\n", "-1\t0/1\n",
    "4294967296\t0/1\n", "1\t0/1\tx\n\x00\n",
])  # fmt: skip
def test_a_damaged_history_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        History.parse(text)


@given(lineages(), lsns)
def test_the_timeline_at_a_position(lineage: tuple[History, int], at: LSN) -> None:
    history, timeline = lineage
    found = history.timeline_at(at, timeline)
    begins = {t: b for t, b in zip(
        [*(s.timeline for s in history), timeline], [LSN(0), *(s.at for s in history)], strict=True
    )}  # fmt: skip
    assert found == max(t for t, begin in begins.items() if begin <= at)


@given(lineages(), lsns, st.data())
def test_branches(lineage: tuple[History, int], end: LSN, data: st.DataObject) -> None:
    """Against an ancestor of oneself one is ahead; an ancestor is behind unless it went on."""
    history, timeline = lineage
    assert branch(history, timeline, end, history, timeline) == "same"
    if not history:
        return
    n = data.draw(st.integers(0, len(history) - 1))
    ancestor, left = History(history[:n]), history[n]
    assert branch(history, timeline, end, ancestor, left.timeline) == "ahead"
    expected = "behind" if end <= left.at else "diverged"
    assert branch(ancestor, left.timeline, end, history, timeline) == expected


def test_a_later_timeline_that_left_before_an_earlier_one() -> None:
    """Its parent is a timeline that its WAL never reached: what lies between is on neither."""
    theirs = History((Switch(1, LSN(100)), Switch(2, LSN(60))))
    assert branch(History(), 1, LSN(60), theirs, 3) == "behind"
    assert branch(History(), 1, LSN(61), theirs, 3) == "diverged"


@given(lineages(), lineages(), lsns)
def test_other_ancestors_are_a_divergence_whatever_the_number(
    one: tuple[History, int], two: tuple[History, int], end: LSN
) -> None:
    (mine, number), (theirs, _) = one, two
    if mine != theirs and all(s.timeline < number for s in theirs):
        assert branch(mine, number, end, theirs, number) == "diverged"


def test_positions_are_ordered_by_timeline_first() -> None:
    assert Position(2, LSN(1)) > Position(1, LSN(2)) > Position(1, LSN(1))
    assert str(Position(3, LSN(0x3000060))) == "0/3000060 on timeline 3"
