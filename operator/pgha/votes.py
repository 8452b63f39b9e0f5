"""The holder's side of votes and promises: who was asked, what came back, for which term."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgha.clock import boottime
from pgha.facts import Branch, Vote, Votes
from pgha.lsn import LSN, History, Position
from pgha.peers.client import PeerClient
from pgha.peers.messages import (
    PromiseAnswer,
    PromiseRequest,
    VoteAnswer,
    VoteRequest,
    parse,
    to_json,
)

VOTE_TIMEOUT = 4.0  # seconds: the voter detaches and reads its WAL meanwhile
PROMISE_TIMEOUT = 1.5


class Poll:
    """Votes of one term; asking again keeps the answers that were granted."""

    def __init__(
        self,
        client: PeerClient,
        hosts: Callable[[], Mapping[str, str]],
        incarnation: str,
        member: str,
        branch: Callable[[History, int, LSN], Branch],
        wake: Callable[[], None],
    ) -> None:
        self._client, self._hosts, self._wake = client, hosts, wake
        self._incarnation, self._member, self._branch = incarnation, member, branch
        self._lock = threading.Lock()
        self._term = 0
        self._first = self._last = float("-inf")
        self._answers: dict[str, Vote] = {}
        self._pending = 0

    def forget(self) -> None:
        with self._lock:
            self._term, self._answers = 0, {}

    def view(self) -> Votes:
        now = boottime()
        with self._lock:
            return Votes(
                self._term, now - self._first, self._pending > 0, now - self._last,
                dict(self._answers),
            )

    def ask(self, term: int, names: Sequence[str]) -> None:
        with self._lock:
            if self._pending:
                return
            if term != self._term:
                self._term, self._answers, self._first = term, {}, boottime()
            self._last = boottime()
            hosts = self._hosts()
            missing = [n for n in names if n not in self._answers and n in hosts]
            self._pending = len(missing)
        request = to_json(VoteRequest(term, self._member, self._incarnation))
        for name in missing:
            threading.Thread(
                target=self._one, args=(term, name, hosts[name], request),
                name=f"vote-{name}", daemon=True,
            ).start()

    def _one(self, term: int, name: str, host: str, request: dict[str, Any]) -> None:
        vote = None
        try:
            answer = parse(
                VoteAnswer, self._client.call(host, "/vote", request, timeout=VOTE_TIMEOUT)
            )
            if answer.term == term and answer.name == name:
                vote = self._judge(answer)
        except Exception:  # noqa: BLE001 - unreachable or unreadable: unknown, not refused
            vote = None
        with self._lock:
            self._pending -= 1
            if vote is not None and vote.granted and self._term == term:
                self._answers[name] = vote
        self._wake()

    def _judge(self, answer: VoteAnswer) -> Vote:
        position, branch = None, Branch.UNKNOWN
        if answer.lsn is not None and answer.timeline:
            position = Position(answer.timeline, LSN(answer.lsn))
            history = History.parse(answer.history_text or "")
            branch = self._branch(history, position.timeline, position.lsn)
        return Vote(
            answer.name, answer.directory_id, answer.granted, position, branch, answer.healthy,
            answer.why,
        )

    def promises(
        self, seconds: float, voters: Mapping[str, str], needed: int
    ) -> float | None:
        """Ask for a promise of `seconds`; the moment before asking if enough promised, or None."""
        asked = boottime()
        hosts = {n: h for n, h in self._hosts().items() if n in voters and n != self._member}
        if needed <= 0 or len(hosts) < needed:
            return None
        request = to_json(PromiseRequest(self._incarnation, 0, seconds))
        promised = 0
        for answer in self._client.call_all(hosts, "/promise", request, PROMISE_TIMEOUT).values():
            if not isinstance(answer, dict):
                continue
            try:
                given = parse(PromiseAnswer, answer)
            except ValueError:
                continue
            if given.promised and voters.get(given.name) == given.directory_id:
                promised += 1
        return asked if promised >= needed else None
