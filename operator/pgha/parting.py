"""A release that its holder could not write, told to the other members instead.

The API server refuses the token of a pod that was deleted by force, and a holder may have lost its
way to the API when it leaves: without this the others wait until the lease ends. Owns the way of
the message; what it allows, and that any newer Lease undoes it, is sight.py's
(docs/decisions/told-release.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pgha.peers.client import PeerClient
from pgha.peers.messages import ReleaseNotice, parse, to_json
from pgha.record import Record

TELL_WITHIN = 1.0  # seconds: whoever tells has stopped, and its pod ends


class Parting:
    """`told`: what a notice of another member is given to, with the version it is of."""

    def __init__(
        self,
        client: PeerClient,
        hosts: Callable[[], Mapping[str, str]],
        told: Callable[[str, Record], None],
    ) -> None:
        self._client, self._hosts, self._told = client, hosts, told

    def tell(self, version: str, record: Record) -> tuple[str, ...]:
        """Tell all members at once; the names of those that have heard it."""
        notice = to_json(ReleaseNotice(version, record.dump()))
        answers = self._client.call_all(self._hosts(), "/released", notice, TELL_WITHIN)
        return tuple(sorted(n for n, answer in answers.items() if isinstance(answer, dict)))

    def hear(self, body: dict[str, Any]) -> dict[str, Any]:
        """Handler of POST /released. Raises ValueError where the notice cannot be read."""
        notice = parse(ReleaseNotice, body)
        record = Record.parse(notice.record)
        if record.release is None:
            raise ValueError("ReleaseNotice: its record bears no release")
        self._told(notice.version, record)
        return {}
