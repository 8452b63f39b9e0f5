"""How fast something is done again that has not changed anything."""

from __future__ import annotations

import pytest

from pgha import actions as a
from pgha.pace import Backoff, Pace
from pgha.rules import Decision

pytestmark = pytest.mark.unit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def decision(rule: str, *actions: a.Action) -> Decision:
    return Decision(rule, "", "", actions, None)


CANCEL = decision("birth-without-lease", a.CancelJob())
PROMOTE = decision("promote", a.SetSyncNames("x"), a.Promote(3))


def turns(pace: Pace, clock: Clock, what: Decision, seconds: float) -> int:
    """How many turns there are in so long a time, when nothing else wakes the agent."""
    until, count = clock.now + seconds, 0
    while clock.now < until:
        clock.now += pace.after(what)
        count += 1
    return count


def test_what_changes_nothing_is_not_done_five_hundred_times_a_second() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert turns(pace, clock, CANCEL, 2.0) <= 22


def test_another_decision_is_followed_up_at_once() -> None:
    pace = Pace(Clock())
    for what in (CANCEL, decision("leaving", a.CancelJob()), PROMOTE, CANCEL):
        assert pace.after(what) == 0.002


def test_the_same_rule_with_another_action_is_another_decision() -> None:
    pace = Pace(Clock())
    assert [pace.after(decision("slots", a.KeepSlots((n,)))) for n in "ab"] == [0.002, 0.002]


def test_a_promotion_is_looked_at_in_milliseconds_and_later_less_often() -> None:
    """It takes about 0.1 s, and clients wait for it."""
    clock = Clock()
    pace, began = Pace(clock), clock.now
    naps: list[float] = []
    while clock.now - began < 10.0:
        naps.append(pace.after(PROMOTE))
        clock.now += naps[-1]
        if clock.now - began < 0.15:
            assert naps[-1] <= 0.003
        if clock.now - began < 1.0:
            assert naps[-1] <= 0.02
    assert naps[-1] == 0.1 and naps == sorted(naps) and len(naps) < 350


def test_the_first_attempt_after_a_failure_is_soon_and_later_ones_are_not() -> None:
    clock = Clock()
    backoff, at = Backoff(2.0, clock), []
    for _ in range(8):
        backoff.failed(changed=False)
        at.append(round(backoff.left, 3))
        clock.now += backoff.left
        assert backoff.left == 0.0
    assert at == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_the_server_s_own_wish_counts_where_it_is_longer() -> None:
    clock = Clock()
    backoff = Backoff(2.0, clock)
    backoff.failed(changed=False, asked=5.0)
    assert backoff.left == 5.0
    backoff.failed(changed=True, asked=0.0)
    assert backoff.left == 0.0


def test_what_has_changed_is_tried_at_once_but_not_for_ever() -> None:
    backoff = Backoff(2.0, Clock())
    left = []
    for _ in range(5):
        backoff.failed(changed=True)
        left.append(backoff.left)
    assert left[:3] == [0.0, 0.0, 0.0] and left[3] > 0.5


def test_a_failure_of_long_ago_and_one_before_a_success_slow_nothing_down() -> None:
    clock = Clock()
    backoff = Backoff(2.0, clock)
    for _ in range(5):
        backoff.failed(changed=False)
    clock.now += 60.0
    backoff.failed(changed=False)
    assert backoff.left == pytest.approx(0.1)
    backoff.failed(changed=False)
    backoff.worked()
    assert backoff.left == 0.0
    backoff.failed(changed=False)
    assert backoff.left == pytest.approx(0.1)
