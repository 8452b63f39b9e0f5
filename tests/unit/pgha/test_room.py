"""A full disk: the primary moves where that loses nothing and helps, and else stays and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgha import actions as a
from pgha.facts import (
    Branch,
    Claim,
    Facts,
    LeaseView,
    Peer,
    Replication,
    Run,
    RunView,
    Tenure,
    Vote,
    Votes,
)
from pgha.gather import GIVEN_UP, Gatherer
from pgha.lsn import LSN
from pgha.member import Member
from pgha.postgres.directory import Directory
from pgha.record import Promotion, Release
from pgha.rules import decide, room
from pgha.settings import Identity, Settings
from tests.unit.pgha.by_hand import (
    ANOTHER,
    END,
    ME,
    MINE,
    OTHER,
    READY,
    RECORD,
    THEIRS,
    decided,
    peer,
    primary,
)

pytestmark = pytest.mark.unit

ROOM = {"free_bytes": room.ROOMY}


def crowded(*peers: Peer, since: float = room.SETTLED) -> Facts:
    return replace(
        primary(), free_bytes=room.FULL - 1, peers={p.name: p for p in peers},
        tenure=Tenure(4, 8.0, since),
    )


def stops(f: Facts) -> bool:
    return any(isinstance(x, a.StopServer) for x in decide(f).actions)


def test_it_moves_to_a_standby_with_every_byte_and_room() -> None:
    decision = decide(crowded(peer(OTHER, **ROOM)))
    said, *rest = decision.actions
    assert decision.rule == "hand-over-stop"
    assert isinstance(said, a.Announce) and said.reason == "DiskFull" and OTHER in said.sentence
    assert rest == [a.AskPeers(), a.StopServer("fast", checkpoint_first=True)]
    none = decide(replace(crowded(peer(OTHER, **ROOM)), free_bytes=0))
    assert none.actions[-1] == a.StopServer("fast"), "a checkpoint would be PANIC, under load"


def test_without_one_it_stays_and_says_so() -> None:
    decision = decide(crowded())
    ask, said = decision.actions
    assert decision.rule == "disk-full" and ask == a.AskPeers()
    assert isinstance(said, a.Announce) and said.reason == "DiskFull"
    assert decided(replace(crowded(), pending=frozenset({"peers"}))) == ("disk-full",)


@pytest.mark.parametrize("changes", [
    {"free_bytes": room.ROOMY - 1}, {"free_bytes": None}, {"free_bytes": 1 << 40, "age": 11.0},
])
def test_no_room_or_an_old_word_is_no_refuge(changes: dict[str, object]) -> None:
    assert not stops(crowded(peer(OTHER, **{**ROOM, **changes})))


def test_a_standby_that_lacks_something_is_no_refuge() -> None:
    f = crowded(peer(OTHER, **ROOM))
    behind = tuple(
        replace(s, caught_up=s.name != OTHER) for s in f.replication.senders
    )
    assert not stops(replace(f, replication=replace(f.replication, senders=behind)))
    gone = tuple(s for s in f.replication.senders if s.name != OTHER)
    assert not stops(replace(f, replication=replace(f.replication, senders=gone)))


def test_it_does_not_move_again_and_again() -> None:
    f = crowded(peer(OTHER, **ROOM), since=room.SETTLED - 1)
    assert decide(f).rule == "disk-full"


@pytest.mark.parametrize("free", [None, room.FULL])
def test_a_disk_with_room_or_of_unknown_state_changes_nothing(free: int | None) -> None:
    assert decided(replace(crowded(peer(OTHER, **ROOM)), free_bytes=free)) == ("primary",)


def test_a_holder_that_cannot_start_for_want_of_room_says_so() -> None:
    f = replace(crowded(), run=RunView(Run.STOPPED, start_failures=2, retry_in=4.0))
    f = replace(f, lease=replace(f.lease, record=replace(f.record, term=5)),
                tenure=Tenure(5, 8.0, 5.0))
    decision = decide(f)
    (said,) = decision.actions
    assert decision.rule == "holder-start" and decision.look_again_in == 4.0
    assert isinstance(said, a.Announce) and said.reason == "DiskFull"
    assert decided(replace(f, free_bytes=room.FULL)) == ("holder-start",)


def holder_without_room(**changes: Any) -> Facts:
    """Before its promotion, on the directory of the last primary unless `changes` says other."""
    record = replace(RECORD, term=5, **changes)
    return replace(
        crowded(), free_bytes=room.PROMOTION - 1, run=RunView(Run.STANDBY),
        data=replace(READY, end=END), tenure=Tenure(5, 8.0, 50.0), replication=Replication(),
        lease=LeaseView(Claim.HELD, MINE, 1.0, record),
    )


def free_of(f: Facts, **changes: Any) -> Facts:
    """The same member, where nobody holds the lease."""
    record = replace(f.record, **changes)
    claim = Claim.RELEASED if record.release else Claim.EXPIRED
    return replace(f, tenure=None, curious_for=60.0, lease=LeaseView(claim, None, 30.0, record))


ELSEWHERE = {"primary": OTHER, "primary_directory": "d1", "end": END}


@pytest.mark.parametrize("changes", [{}, ELSEWHERE, {"primary_directory": "d9", "end": END}])
def test_who_has_no_room_for_a_promotion_keeps_the_lease_and_says_so(changes: Any) -> None:
    """And with the lease what nobody else may have."""
    f = holder_without_room(**changes)
    decision = decide(f)
    ask, said = decision.actions
    assert decision.rule == "no-room" and decision.look_again_in is not None
    assert ask == a.AskPeers() and isinstance(said, a.Announce) and said.reason == "DiskFull"
    assert decide(replace(f, free_bytes=room.PROMOTION)).rule == "intent"


def test_the_lease_goes_to_one_who_has_all_of_it_and_room() -> None:
    f = holder_without_room(**ELSEWHERE)

    def beside(**changes: Any) -> tuple[a.Action, ...]:
        return decide(replace(f, peers={OTHER: peer(OTHER, **{**ROOM, **changes})})).actions[1:]

    assert beside() == (a.ReleaseLease(OTHER),)
    for unfit in (
        {"position": replace(END, lsn=LSN(int(END.lsn) - 1))},
        {"position": replace(END, timeline=END.timeline + 1)},
        {"free_bytes": room.ROOMY - 1}, {"healthy": False}, {"leaving": True}, {"age": 11.0},
        {"directory_id": "new"},
    ):  # fmt: skip
        assert a.ReleaseLease(OTHER) not in beside(**unfit), unfit


def test_the_room_that_a_promotion_takes_is_its_own() -> None:
    """Its first segment fills the disk: it is no reason to give the lease back in the middle."""
    f = holder_without_room()
    record = replace(f.record, promotion=Promotion(5, 7, MINE))
    f = replace(f, lease=replace(f.lease, record=record))
    assert decide(f).rule == "no-room"
    assert decide(replace(f, run=replace(f.run, promoting=7))).rule == "promote"


def test_without_room_the_lease_is_taken_only_for_what_nobody_else_may_have() -> None:
    """Or one that had less would give it back to this member for ever."""
    f = free_of(holder_without_room(**ELSEWHERE))
    assert "no room" in decide(f).detail
    assert isinstance(decide(replace(f, free_bytes=room.PROMOTION)).actions[0], a.Acquire)

    def takes(f: Facts) -> bool:
        return any(isinstance(x, a.Acquire) for x in decide(f).actions)

    assert takes(free_of(holder_without_room())), "the last primary"
    assert takes(free_of(f, end=None, release=Release(THEIRS, 5, ME))), "named by one with less"
    assert not takes(free_of(f, end=None, release=Release(THEIRS, 5, ANOTHER)))
    begun = free_of(f, end=None, promotion=Promotion(4, 7, MINE))
    assert not takes(begun), "its promotion was never begun"
    there = replace(f.data, timeline=7, branch=Branch.AHEAD, end=replace(END, timeline=7))
    assert takes(replace(begun, data=there)), "nobody else is on that timeline"


class Ended:
    """A server whose every start ends at once, on a disk with `free` bytes."""

    def __init__(self, free: int, folder: Path, **settings: bool) -> None:
        directory = Directory(folder / "pgdata", folder)
        directory.free_bytes = lambda: free  # type: ignore[method-assign]
        self.member = Member(directory, data=READY)
        self.member.look = lambda: None  # type: ignore[method-assign]
        unused: Any = None
        self.record = RECORD
        keeper: Any = SimpleNamespace(
            view=lambda dead, own: LeaseView(Claim.HELD, MINE, 1.0, self.record),
            recall=lambda kept: None,
        )
        server: Any = SimpleNamespace(exit=lambda: 1, kill=lambda timeout: True)
        self.gatherer = Gatherer(
            settings=Settings("c", "ns", "app", "15", **settings),  # type: ignore[arg-type]
            identity=Identity(ME, "u0", "s0"), member=self.member, server=server, sql=unused,
            keeper=keeper, ballot=unused, book=unused, poll=unused, early=unused, jobs=unused,
            pulse=unused, guard=unused, ear=unused, errands=unused, pods=dict, replicas=lambda: 3,
            foreign_owner=lambda: "", leaving=lambda: False, gone=lambda: frozenset({"u0"}),
            log=lambda *_, **__: None,
        )

    def fails(self, times: int) -> int:
        for _ in range(times):
            self.gatherer._was = Run.STARTING
            self.gatherer._ended()
        return self.member.start_failures


def test_the_last_primary_is_not_given_up_for_want_of_room(tmp_path: Path) -> None:
    """In Asynchronous mode: nobody else is known to have what it acknowledged."""
    assert Ended(0, tmp_path).fails(5) == GIVEN_UP - 1
    assert Ended(room.FULL, tmp_path).fails(5) == 5, "not for want of room"
    assert Ended(0, tmp_path, synchronous=True).fails(5) == 5, "a quorum knows"
    standby = Ended(0, tmp_path)
    standby.record = replace(RECORD, primary=OTHER, primary_directory="d1")
    assert standby.fails(5) == 5
    other = Ended(0, tmp_path)
    other.record = replace(RECORD, primary_directory="another")
    assert other.fails(5) == 5


def test_the_lease_goes_to_one_with_room_that_shows_the_end() -> None:
    f = replace(
        crowded(peer(OTHER, free_bytes=0), peer(ANOTHER, **ROOM)),
        run=RunView(Run.STOPPED, stopped_for=0.1), data=replace(READY, end=END, clean=True),
    )
    assert decided(f) == ("hand-over-release", a.ReleaseLease(ANOTHER, END))
    late = replace(f, peers={OTHER: f.peers[OTHER]})
    assert decided(late) == ("hand-over-release", a.AskPeers())
    over = replace(late, run=RunView(Run.STOPPED, stopped_for=9.0))
    assert decided(over) == ("crash-hand-over", a.ReleaseLease(OTHER, END))
    nobody = decide(replace(over, peers={}))
    assert nobody.rule == "crash-restart", "it stays where every byte is"


def with_quorum(**changes: Any) -> Facts:
    """Synchronous, R = 2 of three: this holder without room has more WAL than the others."""
    f = holder_without_room(**changes)
    less = replace(END, lsn=LSN(int(END.lsn) - 8))
    others = {n: peer(n, position=less, **ROOM) for n in (OTHER, ANOTHER)}
    return replace(f, peers=others, tenure=Tenure(5, 8.0, room.KEPT))


def test_in_synchronous_mode_a_quorum_with_room_is_enough() -> None:
    """What this member has more was acknowledged to nobody: R + W + 1 > |V|."""
    f = with_quorum()
    most = peer(OTHER, position=END, **{**ROOM, "healthy": False})
    released = decide(f)
    assert (released.rule, released.actions[1:]) == ("no-room", (a.ReleaseLease(ANOTHER),))
    further = peer(OTHER, position=replace(END, lsn=LSN(int(END.lsn) - 1)), **ROOM)
    assert a.ReleaseLease(OTHER) in decide(replace(f, peers={**f.peers, OTHER: further})).actions

    def keeps(f: Facts) -> bool:
        return not any(isinstance(x, a.ReleaseLease) for x in decide(f).actions)

    assert keeps(replace(f, tenure=Tenure(5, 8.0, room.KEPT - 1)))
    assert keeps(with_quorum(write_quorum=0)), "Asynchronous"
    assert keeps(with_quorum(degraded=True))
    assert keeps(with_quorum(read_quorum=3)), "they may lack what this one acknowledged"
    for unfit in (
        {"free_bytes": room.ROOMY - 1}, {"healthy": False}, {"leaving": True}, {"age": 11.0},
        {"directory_id": "new"}, {"position": None},
    ):  # fmt: skip
        less = replace(f.peers[OTHER], **unfit)  # type: ignore[arg-type]
        assert keeps(replace(f, peers={**f.peers, OTHER: less})), unfit
    assert keeps(replace(f, peers={**f.peers, OTHER: most}))


def test_without_room_the_lease_is_not_taken_where_a_quorum_has_it() -> None:
    f = free_of(with_quorum())
    assert "no room" in decide(f).detail
    assert isinstance(decide(replace(f, peers={})).actions[0], a.Acquire), "nobody else is heard"
    named = free_of(with_quorum(), release=Release(THEIRS, 5, ME))
    assert isinstance(decide(named).actions[0], a.Acquire), "by one that heard too few"


def successor_of_crowded(**changes: Any) -> Facts:
    """This holder has room and less WAL than the former primary, which has none."""
    f = with_quorum(primary=OTHER, primary_directory="d1", **changes)
    less = replace(END, lsn=LSN(int(END.lsn) - 8))
    votes = Votes(5, 1.0, False, 0.1, {
        OTHER: Vote(OTHER, "d1", True, END, Branch.SAME, True),
        ANOTHER: Vote(ANOTHER, "d2", True, less, Branch.SAME, True),
    })
    crowded = peer(OTHER, free_bytes=room.PROMOTION - 1)
    return replace(
        f, free_bytes=room.ROOMY, data=replace(READY, end=less), votes=votes,
        peers={**f.peers, OTHER: crowded}, tenure=Tenure(5, 8.0, room.ASK_WITHIN),
    )


def test_more_wal_on_a_full_disk_is_passed_over_where_the_others_make_a_quorum() -> None:
    f = successor_of_crowded()
    assert decide(f).rule == "intent"
    to_it = ("yield", a.ReleaseLease(OTHER))
    for unproven in (
        successor_of_crowded(write_quorum=0), successor_of_crowded(degraded=True),
        successor_of_crowded(read_quorum=3), replace(f, free_bytes=0),
        replace(f, peers={**f.peers, OTHER: peer(OTHER, **ROOM)}),
        replace(f, votes=replace(f.votes, answers={OTHER: f.votes.answers[OTHER]})),
    ):
        assert decided(unproven) == to_it
    diverged = replace(f.votes.answers[ANOTHER], branch=Branch.DIVERGED)
    answers = {**f.votes.answers, ANOTHER: diverged}
    assert decided(replace(f, votes=replace(f.votes, answers=answers))) == to_it
    more = replace(f.votes.answers[ANOTHER], position=END)
    answers = {**f.votes.answers, ANOTHER: more}
    assert decided(replace(f, votes=replace(f.votes, answers=answers))) == (
        "yield", a.ReleaseLease(ANOTHER)
    ), "of those with room the one with the most WAL"


def test_a_new_holder_hears_the_others_before_it_gives_the_lease_to_a_full_disk() -> None:
    f = replace(successor_of_crowded(), tenure=Tenure(5, 8.0, room.ASK_WITHIN - 1))
    f = replace(f, votes=replace(f.votes, last_asked=0.6, answers={
        OTHER: f.votes.answers[OTHER],
    }))
    asked = decided(f)
    assert asked == ("yield", a.AskPeers(), a.AskVotes(5))
    unknown = replace(f, peers={}, votes=replace(f.votes, last_asked=0.1))
    assert decided(unknown) == ("yield", a.AskPeers())
    roomy = replace(f, peers={OTHER: peer(OTHER, **ROOM)})
    assert decided(roomy) == ("yield", a.ReleaseLease(OTHER))
