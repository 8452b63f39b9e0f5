"""What the other members say of themselves. Owns the asking and the age of each answer."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pgha.clock import boottime
from pgha.facts import Data, Peer, Run
from pgha.lsn import LSN, Position
from pgha.peers.client import PeerClient
from pgha.peers.messages import MemberStatus, parse

BREATH = 0.02  # seconds between the beginnings of two rounds
STATUS_TIMEOUT = 1.0  # seconds for one round of questions
_E = TypeVar("_E", bound=enum.Enum)
CALM = 3.0  # seconds without a question after which curiosity is over


class Book:
    """Asks in the background, at most one round at a time."""

    def __init__(
        self,
        client: PeerClient,
        hosts: Callable[[], Mapping[str, str]],
        own: Callable[[], dict[str, Any]],
        wake: Callable[[], None],
        heard: Callable[[int], None],
    ) -> None:
        self._client, self._hosts, self._own, self._wake = client, hosts, own, wake
        self._heard = heard
        self._answers: dict[str, tuple[float, Peer]] = {}
        self._asking = threading.Lock()
        self._curious_since: float | None = None
        self._last_asked = float("-inf")
        self._last_round = float("-inf")

    def ask(self) -> None:
        now = boottime()
        if self._curious_since is None or now - self._last_asked > CALM:
            self._curious_since = now
        self._last_asked = now
        if now - self._last_round < BREATH:
            return
        if self._asking.acquire(blocking=False):
            threading.Thread(target=self._round, name="ask-peers", daemon=True).start()

    @property
    def asking(self) -> bool:
        return self._asking.locked()

    @property
    def curious_for(self) -> float:
        now = boottime()
        if self._curious_since is None or now - self._last_asked > CALM:
            return 0.0
        return now - self._curious_since

    def _round(self) -> None:
        try:
            sent = self._last_round = boottime()
            self._note(sent, self._own())
            answers = self._client.call_all(self._hosts(), "/status", None, STATUS_TIMEOUT)
            for answer in answers.values():
                if isinstance(answer, dict):
                    self._note(sent, answer)
        finally:
            self._asking.release()
            self._wake()

    def _note(self, sent: float, answer: dict[str, Any]) -> None:
        try:
            status = parse(MemberStatus, answer)
        except ValueError:
            return
        self._answers[status.name] = (sent, _peer(status))
        self._heard(status.term_seen)

    def peers(self) -> dict[str, Peer]:
        """The last answer of each member, with its age counted from when it was asked for."""
        now = boottime()
        answers = dict(self._answers)  # a round's thread may note another one meanwhile
        return {name: replace(peer, age=now - sent) for name, (sent, peer) in answers.items()}

    def asked_since(self, name: str, moment: float) -> str | None:
        """The directory id that `name` reported when asked after `moment`, else None."""
        found = self._answers.get(name)
        return found[1].directory_id if found is not None and found[0] >= moment else None


def _peer(s: MemberStatus) -> Peer:
    position = None
    if s.lsn is not None and s.timeline:
        position = Position(s.timeline, LSN(s.lsn))
    return Peer(
        name=s.name,
        age=0.0,
        uid=s.uid,
        directory_id=s.directory_id,
        data=_enum(Data, s.directory_state, Data.UNKNOWN),
        run=_enum(Run, s.server_state, Run.STOPPED),
        system_id=s.system_id,
        position=position,
        healthy=s.healthy,
        term_seen=s.term_seen,
        rewindable_term=s.rewindable_term,
        receiving=s.receiving,
        record=s.record,
        hot=s.hot,
        leaving=s.leaving,
        free_bytes=s.free_bytes,
        silent=s.silent,
    )


def _enum(kind: type[_E], value: str, otherwise: _E) -> _E:
    try:
        return kind(value)
    except ValueError:
        return otherwise
