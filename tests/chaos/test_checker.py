"""The checker is tested itself: histories with known anomalies, each caught by its invariant, and
a history without any, which passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import checker
from tests.chaos.campaign import judge
from tests.chaos.checker import Bounds
from tests.chaos.history import History, Lease, Op, Roles

pytestmark = pytest.mark.unit

STRICT = Bounds(outage=5.0)


def insert(number: int, at: float, timeline: int = 1, server: str = "a") -> Op:
    return Op("insert", "fresh", number, 0, at, at + 0.1, "ok", server, timeline)


def append(number: int, at: float, seen: tuple[int, ...], timeline: int = 1) -> Op:
    server = "a" if timeline == 1 else "b"
    return Op(
        "append", "persistent", number, 0, at, at + 0.1, "ok", server, timeline, seen
    )


def good() -> History:
    """A fail-over at 3 s: timeline 1 on a until then, timeline 2 on b from 4 s on."""
    return History(
        nemesis="test", synchronous=True, struck=3.0, mended=5.0, redundant=6.0, ended=8.0,
        ops=[
            insert(1, 1.0), insert(2, 2.0), insert(3, 5.0, 2, "b"), insert(4, 7.0, 2, "b"),
            append(11, 1.0, (11,)), append(12, 5.0, (11, 12), 2),
        ],
        rows=[1, 2, 3, 4],
        lists={0: [11, 12]},
        roles=[Roles(0.0, ("x-0",)), Roles(4.0, ("x-0", "x-1")), Roles(4.1, ("x-1",))],
        leases=[
            Lease(0.0, "x-0/u/1", 1, 1, "x-0/u/1", 1, 1, True),
            Lease(3.5, "x-1/u/2", 2, 1, "x-0/u/1", 1, 1, True),
            Lease(3.6, "x-1/u/2", 2, 1, "x-1/u/2", 2, 2, False),
            Lease(3.9, "x-1/u/2", 2, 2, "x-1/u/2", 2, 2, True),
        ],
    )  # fmt: skip


def broken(history: History, bounds: Bounds = STRICT) -> set[str]:
    return {violation.invariant for violation in checker.check(history, bounds)}


def test_a_history_without_anomaly_passes() -> None:
    assert checker.check(good(), STRICT) == []
    assert checker.promotions(good()) == 1
    assert checker.outage(good()) == pytest.approx(3.0)


def test_two_writable_servers_are_seen() -> None:
    history = good()
    history.ops.append(insert(5, 6.0, 1, "a"))
    history.rows.append(5)
    assert "I1" in broken(history)


def test_a_directory_that_was_given_up_is_seen_where_it_was_to_stay() -> None:
    history = good()
    history.leases[0] = replace(history.leases[0], voters={"x-0": "d0", "x-1": "d1"})
    history.leases[2] = replace(history.leases[2], voters={"x-0": "d0"})
    keeping = replace(STRICT, keeps=True)
    assert broken(history, keeping) == set()
    history.leases[3] = replace(history.leases[3], voters={"x-0": "d0", "x-1": "copy"})
    assert broken(history, keeping) == {"I8"} and broken(history) == set()


def test_two_servers_on_one_timeline_are_seen() -> None:
    history = good()
    history.ops.append(insert(5, 7.5, 2, "c"))
    history.rows.append(5)
    assert broken(history) == {"I1"}


def test_a_lost_row_is_seen_in_synchronous_mode_and_where_the_disk_was_left() -> None:
    history = good()
    history.rows.remove(2)
    assert broken(history) == {"I2"}
    assert broken(history, replace(STRICT, may_lose=True)) == {"I2"}
    history.synchronous = False
    assert broken(history) == {"I2"}
    assert broken(history, replace(STRICT, may_lose=True)) == set()
    assert [op.id for op in checker.lost(history)] == [2]


def test_a_row_that_came_back_twice_is_seen() -> None:
    history = good()
    history.rows.append(2)
    assert broken(history) == {"I2"}


def test_a_lost_append_is_seen() -> None:
    history = good()
    history.lists[0].remove(12)
    assert broken(history) == {"I2"}


def test_a_list_that_forked_is_seen() -> None:
    """Both appends are there at the end, but one saw a state that never led to it."""
    history = good()
    history.ops[-1] = append(12, 5.0, (12,), 2)
    assert broken(history) == {"I2"}


def test_an_order_against_real_time_is_seen() -> None:
    history = good()
    history.ops[-2:] = [append(11, 1.0, (12, 11)), append(12, 5.0, (12,), 2)]
    history.lists = {0: [12, 11]}
    assert broken(history) == {"I2"}


def test_an_unknown_outcome_may_be_there_or_not() -> None:
    history = good()
    history.ops.append(replace(insert(9, 2.5), outcome="unknown"))
    assert broken(history) == set()
    history.rows.append(9)
    assert broken(history) == set()


def test_a_write_of_the_former_holder_is_seen() -> None:
    """It began after the other had acquired, and before the other had acknowledged anything."""
    history = good()
    history.ops.append(insert(5, 3.7))
    history.rows.append(5)
    assert broken(history) == {"I3"}


def test_a_record_that_goes_back_is_seen() -> None:
    history = good()
    history.leases.append(replace(history.leases[-1], at=6.0, timeline=1))
    assert broken(history) == {"I4"}


def test_two_promotions_in_one_term_are_seen() -> None:
    history = good()
    history.leases.append(replace(history.leases[-1], at=6.0, promoter="x-2/u/3"))
    assert broken(history) == {"I4"}


def test_a_timeline_number_used_twice_is_seen() -> None:
    history = good()
    again = replace(history.leases[-1], at=6.0, term=3, promotion_term=3, promoter="x-2/u/3")
    history.leases.append(again)
    assert broken(history) == {"I4"}


def test_two_labels_for_long_are_seen() -> None:
    history = good()
    history.roles.insert(2, Roles(4.05, ("x-0", "x-1")))
    history.roles[-1] = Roles(6.5, ("x-1",))
    assert broken(history) == {"I5"}
    assert broken(history, replace(STRICT, labels=3.0)) == set()


def test_two_labels_at_the_end_are_seen() -> None:
    history = good()
    history.roles.append(Roles(6.0, ("x-0", "x-1")))
    assert broken(history) == {"I5"}


def test_a_member_that_stays_away_is_seen() -> None:
    history = good()
    history.redundant = 0.0
    assert broken(history) == {"I6"}


def test_a_long_outage_is_seen() -> None:
    assert broken(good(), Bounds(outage=2.0)) == {"I7"}


@pytest.mark.parametrize(("mode", "nemesis", "neighbours", "seconds"), [
    ("hot-sync-qf", "node-cut", [], 10.0),
    ("hot-sync-qf", "node-cut", ["c-1"], 40.0),  # too few are left to vote before the lease ends
    ("hot-sync-qf", "members-cut", ["c-1"], 10.0),
    ("hot-sync", "node-cut", [], 40.0),
])
def test_what_a_cut_may_cost_is_by_who_is_left(
    mode: str, nemesis: str, neighbours: list[str], seconds: float
) -> None:
    def broken(outage: float) -> bool:
        ops = [insert(1, 1.0), insert(2, 1.1 + outage)]
        history = replace(good(), mode=mode, nemesis=nemesis, neighbours=neighbours, ops=ops,
                          ended=outage + 9.0)
        return any(v.invariant == "I7" for v in judge(history).violations)

    assert broken(seconds + 0.5) and not broken(seconds - 0.5)


def test_an_outage_without_an_end_is_seen() -> None:
    history = good()
    history.ended = 20.0
    assert broken(history) == {"I7"}


def test_a_history_survives_its_file(tmp_path: Path) -> None:
    history = good()
    file = tmp_path / "trial.jsonl"
    history.save(file)
    assert History.load(file) == history
