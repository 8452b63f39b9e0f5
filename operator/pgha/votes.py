"""The asking side of votes, early votes and promises: who was asked, and what came back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from pgha.clock import boottime
from pgha.facts import Branch, Vote, Votes
from pgha.lsn import LSN, History, Position
from pgha.peers.client import PeerClient
from pgha.peers.messages import (
    EarlyVoteRequest,
    PromiseAnswer,
    PromiseRequest,
    VoteAnswer,
    VoteRequest,
    parse,
    to_json,
)

VOTE_TIMEOUT = 4.0  # seconds: the voter detaches and reads its WAL meanwhile
PROMISE_TIMEOUT = 1.5


Question = VoteRequest | EarlyVoteRequest
_PATHS: dict[type[Question], str] = {VoteRequest: "/vote", EarlyVoteRequest: "/early-vote"}


class Poll:
    """The votes on one question; asking it again keeps the answers that were granted."""

    def __init__(
        self,
        client: PeerClient,
        hosts: Callable[[], Mapping[str, str]],
        incarnation: str,
        member: str,
        branch: Callable[[str, History, Position], tuple[Branch, LSN | None]],
        wake: Callable[[], None],
        heard: Callable[[int], None],
    ) -> None:
        self._client, self._hosts, self._wake, self._heard = client, hosts, wake, heard
        self._incarnation, self._member, self._branch = incarnation, member, branch
        self._lock = threading.Lock()
        self._question: Question | None = None
        self._first = self._last = float("-inf")
        self._answers: dict[str, Vote] = {}
        self._pending = 0

    def forget(self) -> None:
        with self._lock:
            self._question, self._answers = None, {}

    def view(self) -> Votes:
        now = boottime()
        with self._lock:
            q = self._question
            return Votes(
                q.term if q else 0, now - self._first, self._pending > 0, now - self._last,
                dict(self._answers), q.version if isinstance(q, EarlyVoteRequest) else "",
            )

    def ask(self, term: int, names: Sequence[str]) -> None:
        self._ask(VoteRequest(term, self._member, self._incarnation), names)

    def ask_early(self, term: int, version: str, names: Sequence[str]) -> None:
        self._ask(EarlyVoteRequest(term, version, self._member), names)

    def _ask(self, question: Question, names: Sequence[str]) -> None:
        with self._lock:
            if self._pending:
                return
            if question != self._question:
                self._question, self._answers, self._first = question, {}, boottime()
            self._last = boottime()
            hosts = self._hosts()
            missing = [n for n in names if n not in self._answers and n in hosts]
            self._pending = len(missing)
        for name in missing:
            threading.Thread(
                target=self._one, args=(question, name, hosts[name]),
                name=f"vote-{name}", daemon=True,
            ).start()

    def _one(self, question: Question, name: str, host: str) -> None:
        vote, path = None, _PATHS[type(question)]
        try:
            answer = parse(VoteAnswer, self._client.call(
                host, path, to_json(question), timeout=VOTE_TIMEOUT
            ))
            self._heard(answer.term_seen)
            if answer.term == question.term and answer.name == name:
                vote = self._judge(answer)
        except Exception:  # noqa: BLE001 - unreachable or unreadable: unknown, not refused
            vote = None
        with self._lock:
            self._pending -= 1
            if vote is not None and vote.granted and self._question == question:
                self._answers[name] = vote
        self._wake()

    def _judge(self, answer: VoteAnswer) -> Vote:
        position, branch, left = None, Branch.UNKNOWN, None
        if answer.lsn is not None and answer.timeline:
            position = Position(answer.timeline, LSN(answer.lsn))
            history = History.parse(answer.history_text or "")
            branch, left = self._branch(answer.name, history, position)
        return Vote(
            answer.name, answer.directory_id, answer.granted, position, branch, answer.healthy,
            answer.why, left,
        )

    def promises(
        self, term: int, seconds: float, needs: Sequence[tuple[Mapping[str, str], int]],
        deleted: bool = False,
    ) -> float | None:
        """Ask for a promise of `seconds`; the moment before asking if enough promised, or None.

        `needs`: directories by name, and how many of them have to promise, for each record.
        """
        asked, known = boottime(), self._hosts()
        hosts = {n: h for n, h in known.items() if any(n in v for v, _ in needs)}
        if any(needed <= 0 or len(v.keys() & hosts) < needed for v, needed in needs):
            return None
        request = to_json(PromiseRequest(self._incarnation, term, seconds, deleted))
        promised: dict[str, str | None] = {}
        for answer in self._client.call_all(hosts, "/promise", request, PROMISE_TIMEOUT).values():
            if not isinstance(answer, dict):
                continue
            try:
                given = parse(PromiseAnswer, answer)
            except ValueError:
                continue
            self._heard(given.term_seen)
            if given.promised:
                promised[given.name] = given.directory_id
        enough = all(
            sum(promised.get(n) == d for n, d in v.items()) >= needed for v, needed in needs
        )
        return asked if enough else None
