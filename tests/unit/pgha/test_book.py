"""The answers of the members: noted by one thread, read by others, and heard for their terms."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from pgha import book
from pgha.book import Book
from pgha.peers.client import PeerUnreachable
from pgha.peers.messages import MemberStatus, to_json

pytestmark = pytest.mark.unit


class Members:
    def call_all(
        self, hosts: Mapping[str, str], path: str, body: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        return {"c-1": status("c-1", 7), "c-2": PeerUnreachable("it is silent")}


def status(name: str, term: int) -> dict[str, Any]:
    return to_json(MemberStatus(name, "u", f"{name}/u/s", term_seen=term))


def test_a_status_tells_of_a_term() -> None:
    """A higher one ends a tenure."""
    told: list[int] = []
    members: Any = Members()
    noted = Book(members, dict, lambda: status("c-0", 6), lambda: None, told.append)
    noted.ask()
    while noted.asking:
        time.sleep(0.01)
    assert told == [6, 7]


def test_a_member_that_answers_for_the_first_time_disturbs_no_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The round's thread may note it while the loop reads what the others said."""
    unused: Any = None
    noted = Book(unused, dict, dict, lambda: None, lambda term: None)

    def answer(name: str) -> None:
        noted._note(1.0, status(name, 6))

    answer("c-0")
    answer("c-1")

    def replace(peer: object, **_: object) -> object:
        answer("c-2")
        return peer

    monkeypatch.setattr(book, "replace", replace)
    assert set(noted.peers()) == {"c-0", "c-1"}
    assert set(noted.peers()) == {"c-0", "c-1", "c-2"}
