"""The answers of the members, noted by one thread and read by others."""

from __future__ import annotations

from typing import Any

import pytest

from pgha import book
from pgha.book import Book
from pgha.peers.messages import MemberStatus, to_json

pytestmark = pytest.mark.unit


def test_a_member_that_answers_for_the_first_time_disturbs_no_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The round's thread may note it while the loop reads what the others said."""
    unused: Any = None
    noted = Book(unused, dict, dict, lambda: None)

    def answer(name: str) -> None:
        noted._note(1.0, to_json(MemberStatus(name, "u", "i")))

    answer("c-0")
    answer("c-1")

    def replace(peer: object, **_: object) -> object:
        answer("c-2")
        return peer

    monkeypatch.setattr(book, "replace", replace)
    assert set(noted.peers()) == {"c-0", "c-1"}
    assert set(noted.peers()) == {"c-0", "c-1", "c-2"}
