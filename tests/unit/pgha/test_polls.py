"""Votes and early votes are asked over paths of their own, and count for one question only."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from pgha.facts import Branch
from pgha.peers.client import PeerUnreachable
from pgha.votes import Poll

pytestmark = pytest.mark.unit


class Members:
    """Three voters that grant whatever they are asked, but `silent` ones."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.silent: set[str] = set()
        self.refusing: set[str] = set()
        self.told: list[int] = []  # terms, as to the keeper
        self.term_seen = 5
        self.woken = threading.Event()
        self.answering = threading.Event()
        self.answering.set()

    def call(self, host: str, path: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        self.asked.append((host, path, body))
        self.answering.wait(5.0)
        if host in self.silent:
            raise PeerUnreachable(f"{host} is silent")
        return {"granted": host not in self.refusing, "name": host, "term": body["term"],
                "directory_id": f"d-{host}", "timeline": 2, "lsn": 9,
                "term_seen": self.term_seen}

    def call_all(
        self, hosts: Mapping[str, str], path: str, body: dict[str, Any], timeout: float
    ) -> dict[str, Any]:
        self.asked.extend((host, path, body) for host in hosts)
        return {
            n: PeerUnreachable(f"{n} is silent") if n in self.silent
            else {"promised": n not in self.refusing, "name": n, "directory_id": f"d-{n}",
                  "term_seen": self.term_seen}
            for n in hosts
        }

    def poll(self) -> Poll:
        hosts: Mapping[str, str] = {n: n for n in ("c-1", "c-2")}
        return Poll(self, lambda: hosts, "c-0/u/s", "c-0",  # type: ignore[arg-type]
                    lambda *vote: (Branch.SAME, None), self.woken.set, self.told.append)


def answered(poll: Poll) -> set[str]:
    for _ in range(500):
        if not poll.view().pending:
            break
        threading.Event().wait(0.01)
    return set(poll.view().answers)


def test_early_votes_are_of_one_version_of_the_lease() -> None:
    members = Members()
    poll = members.poll()
    poll.ask_early(4, "l/9", ["c-1", "c-2"])
    assert answered(poll) == {"c-1", "c-2"}
    assert {path for _, path, _ in members.asked} == {"/early-vote"}
    assert members.asked[0][2] == {"term": 4, "version": "l/9", "candidate": "c-0"}
    assert (poll.view().term, poll.view().version) == (4, "l/9")
    members.silent = {"c-2"}
    poll.ask_early(4, "l/10", ["c-1", "c-2"])
    assert answered(poll) == {"c-1"}, "what was said about another Lease does not count"
    poll.forget()
    assert (poll.view().version, answered(poll)) == ("", set())


def test_an_answer_that_comes_after_its_question_was_dropped_does_not_count() -> None:
    members = Members()
    members.answering.clear()
    poll = members.poll()
    poll.ask_early(4, "l/9", ["c-1", "c-2"])
    poll.forget()
    members.answering.set()
    assert answered(poll) == set()


def test_votes_are_asked_as_ever_and_have_no_version() -> None:
    members = Members()
    members.refusing = {"c-1"}
    poll = members.poll()
    poll.ask(5, ["c-1", "c-2"])
    assert answered(poll) == {"c-2"}
    assert {path for _, path, _ in members.asked} == {"/vote"}
    assert members.asked[0][2] == {"term": 5, "candidate": "c-0", "incarnation": "c-0/u/s"}
    assert (poll.view().term, poll.view().version) == (5, "")
    poll.ask(5, ["c-1", "c-2"])
    assert [host for host, _, _ in members.asked].count("c-2") == 1, "it has answered"


def test_promises_have_to_be_enough_by_every_record_that_may_stand() -> None:
    members = Members()
    poll = members.poll()
    old, new = ({"c-1": "d-c-1"}, 1), ({"c-1": "d-c-1", "c-2": "d-c-2"}, 2)
    members.refusing = {"c-2"}
    assert poll.promises(5, 15.0, [old]) is not None
    assert [host for host, _, _ in members.asked] == ["c-1"], "nobody else is bound by it"
    assert poll.promises(5, 15.0, [old, new]) is None
    members.refusing = set()
    assert poll.promises(5, 15.0, [old, new]) is not None
    assert poll.promises(5, 15.0, [({"c-1": "another"}, 1)]) is None, "another directory"
    assert poll.promises(5, 15.0, [new, ({}, 0)]) is None, "one member alone stops at the deadline"


def test_every_answer_tells_of_a_term_also_the_one_that_does_not_count() -> None:
    members = Members()
    poll = members.poll()
    members.refusing, members.term_seen = {"c-1", "c-2"}, 8
    assert poll.promises(5, 15.0, [({"c-1": "d-c-1"}, 1)]) is None
    assert members.told == [8] and members.asked[-1][2]["term"] == 5
    poll.ask(5, ["c-1", "c-2"])
    assert answered(poll) == set() and members.told == [8, 8, 8]
