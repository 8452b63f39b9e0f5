"""R + W + 1 > |V| at every instant, whatever step is lost and whenever the next one comes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgha import quorum
from pgha.quorum import Rewrite, SetNames, Standing, at_start, names_of, plan, quorum_of
from pgha.record import Record

pytestmark = pytest.mark.unit

NAMES = tuple(f"db-{n}" for n in range(5))
ME = "db-0"


def born(**changes: object) -> Record:
    first = Record(term=1, init="initialized", primary=ME, voters=((ME, "d0"),))
    return replace(first, **changes)  # type: ignore[arg-type]


@st.composite
def surroundings(draw: st.DrawFn) -> dict[str, object]:
    size = draw(st.integers(1, 5))
    declared = NAMES[:size]
    streaming = frozenset(n for n in declared[1:] if draw(st.booleans()))
    return {
        "declared": declared,
        "synchronous": draw(st.booleans()),
        "strict": draw(st.booleans()),
        "wanted": draw(st.integers(1, 3)),
        "streaming": streaming,
        "caught_up": frozenset(n for n in streaming if draw(st.booleans())),
        "directories": {n: draw(st.sampled_from(["d1", "d2"])) for n in streaming},
        "missing_for": draw(st.sampled_from([0.0, 2.0, 9.0])),
        "degrade_after": 5.0,
        "barrier": draw(st.booleans()),
        "lost": draw(st.booleans()),
        "seen": draw(st.booleans()),
    }


@settings(max_examples=400, deadline=None)
@given(st.lists(surroundings(), min_size=1, max_size=40))
def test_the_invariant_holds_after_every_write(history: list[dict[str, object]]) -> None:
    record, active, written = born(), "", ""
    for around in history:
        lost, seen = around.pop("lost"), around.pop("seen")
        if seen:
            active = written
        standing = Standing(me=ME, told=written, active=active, **around)  # type: ignore[arg-type]
        if active != written:
            standing = replace(standing, barrier=False)
        step = plan(record, standing)
        if step is None or lost:
            continue
        if isinstance(step, SetNames):
            written = step.value
        else:
            record = step.record
        # Until a setting is seen active PostgreSQL may still wait by the old one.
        waits_for = min(quorum_of(active), quorum_of(written))
        quorum.check(record, waits_for)
        # Law, point 7: whom the server may count is among those that a promotion hears of.
        counted = {n for n in NAMES if f'"{n}"' in active + written}
        everybody = counted | record.voter_names | {ME}
        assert record.degraded or record.read_quorum + waits_for + 1 > len(everybody)


def steady(record: Record, **around: object) -> Standing:
    names = around.pop("active", None)
    known: dict[str, object] = {
        "me": ME, "declared": NAMES[:3], "synchronous": True, "strict": False, "wanted": 1,
        "told": names, "active": names, "barrier": True, "streaming": frozenset(NAMES[1:3]),
        "directories": {"db-1": "d1", "db-2": "d2"}, "caught_up": frozenset(NAMES[1:3]),
        "missing_for": 0.0,
        "degrade_after": 5.0,
    }
    return Standing(**{**known, **around})  # type: ignore[arg-type]


def settle(record: Record, **around: object) -> tuple[Record, str]:
    """Take steps until nothing is left to do."""
    active = ""
    for _ in range(30):
        step = plan(record, steady(record, active=active, **around))
        if step is None:
            return record, active
        if isinstance(step, Rewrite):
            record = step.record
        else:
            active = step.value
        quorum.check(record, quorum_of(active))
    raise AssertionError("the plan does not come to rest")


def test_three_members_come_to_a_quorum() -> None:
    record, names = settle(born())
    assert record.voter_names == {"db-0", "db-1", "db-2"}
    assert (record.read_quorum, record.write_quorum) == (2, 1)
    assert names == 'ANY 1 ("db-1","db-2")'


def test_a_scale_down_narrows_the_server_before_the_record() -> None:
    full, _ = settle(born())
    around = {"declared": NAMES[:2], "streaming": frozenset({"db-1"}),
              "caught_up": frozenset({"db-1"}), "directories": {"db-1": "d1"}}
    step = plan(full, steady(full, active='ANY 1 ("db-1","db-2")', **around))
    assert step == SetNames('ANY 1 ("db-1")')
    record, _ = settle(full, **around)
    assert record.voter_names == {"db-0", "db-1"} and record.read_quorum == 1


def test_a_voter_stays_while_the_server_is_still_to_be_told_to_forget_it() -> None:
    """It was told to count it, which it does not show yet, and then the member was scaled away."""
    record = born().with_voter("db-1", "d1")
    around = {"declared": NAMES[:1], "streaming": frozenset(), "caught_up": frozenset()}
    stale = steady(record, active="", told='ANY 1 ("db-1")', **around)
    assert plan(record, stale) == SetNames("")
    assert isinstance(plan(record, steady(record, active="", told="", **around)), Rewrite)


def test_without_standbys_it_degrades_on_the_record_first_and_comes_back() -> None:
    full, names = settle(born())
    alone = {"streaming": frozenset(), "caught_up": frozenset(), "directories": {}}
    assert plan(full, steady(full, active=names, missing_for=1.0, **alone)) is None
    step = plan(full, steady(full, active=names, missing_for=9.0, **alone))
    assert isinstance(step, Rewrite) and step.record.degraded
    after = plan(step.record, steady(step.record, active=names, missing_for=9.0, **alone))
    assert after == SetNames("")
    record, names = settle(step.record)
    assert not record.degraded and quorum_of(names) == 1


def test_strict_never_degrades_and_never_waits_for_nobody() -> None:
    full, names = settle(born(), strict=True)
    alone = {"streaming": frozenset(), "caught_up": frozenset(), "directories": {}}
    assert plan(full, steady(full, active=names, strict=True, missing_for=99.0, **alone)) is None
    assert names_of(1, ()) == 'ANY 1 ("pgha-nobody")'


def test_who_may_have_to_wait_starts_waiting_for_a_name_that_nobody_bears() -> None:
    assert at_start(born(), synchronous=True) == names_of(1, ())
    assert at_start(born(write_quorum=1), synchronous=False) == names_of(1, ())
    assert at_start(born(), synchronous=False) == ""
    # A member's name ends with its ordinal (settings.ordinal).
    assert not any(part.isdigit() for part in names_of(1, ()).strip('")').split("-"))


def test_a_new_directory_counts_only_once_it_has_caught_up() -> None:
    full, names = settle(born())
    renewed = {"directories": {"db-1": "fresh", "db-2": "d2"}}
    behind = plan(full, steady(full, active=names, caught_up=frozenset({"db-2"}), **renewed))
    assert behind is None
    step = plan(full, steady(full, active=names, **renewed))
    assert isinstance(step, Rewrite) and step.record.votes("db-1", "fresh")
