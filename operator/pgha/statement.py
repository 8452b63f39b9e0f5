"""What this member says of itself to the others, and the voter's view of it. Changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgha.clock import boottime
from pgha.facts import Data, Run
from pgha.lsn import Position
from pgha.peers.messages import MemberStatus, to_json
from pgha.rules import suspect

if TYPE_CHECKING:
    from pgha.agent import Agent

EXACT_EVERY = 0.2  # seconds between two readings of the end of WAL for a status


class Statement:
    """Called from the peer server's threads."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._exact: Position | None = None
        self._exact_at = float("-inf")
        self._reading = threading.Lock()

    @property
    def acting(self) -> threading.Lock:
        return self._agent.member.acting

    def holds(self) -> bool:
        return self._agent.keeper.tenure() is not None

    def hear(self, term: int) -> None:
        self._agent.keeper.hear(term)

    def lease(self) -> tuple[str | None, int]:
        view = self._agent.gatherer.lease()
        return view.holder, view.record.term

    def last_holder(self) -> tuple[str | None, int]:
        return self._agent.keeper.last_holder()

    def version(self) -> str:
        return self._agent.gatherer.lease().version

    def objection(self) -> str | None:
        """Why this member does not suspect the primary; the caller holds `acting`."""
        return suspect.objection(self._agent.gatherer.facts())

    def detach_and_read(self, timeout: float) -> tuple[Position | None, str]:
        return self._agent.voting.detach_and_read(timeout)

    def describe(self) -> Mapping[str, Any]:
        m = self._agent.member
        end = m.data.end
        return {
            "name": self._agent.identity.pod,
            "directory_id": m.data.directory_id,
            "system_id": m.data.system_id,
            "timeline": end.timeline if end else m.data.timeline,
            "lsn": int(end.lsn) if end else None,
            "history_text": m.data.history.text(),
            "healthy": self._healthy()[0],
        }

    def _healthy(self) -> tuple[bool, str]:
        m = self._agent.member
        if m.data.data is not Data.READY:
            return False, f"the data directory is {m.data.data.value}"
        if m.start_failures >= 3:
            return False, "PostgreSQL does not start"
        if self._agent.jobs.view().running:
            return False, f"a {self._agent.jobs.view().kind} runs"
        ill = self._agent.pulse.ill(self._agent.settings.times.renew_deadline)
        return ill is None, ill or ""

    def status(self) -> dict[str, Any]:
        a, m = self._agent, self._agent.member
        last = a.last()
        run = last[0].run if last else None
        where = self._position(run.run if run else Run.STOPPED)
        ok, why = self._healthy()
        view = a.gatherer.lease()
        note = a.directory.read_note("record") or {}
        return to_json(MemberStatus(
            name=a.identity.pod,
            uid=a.identity.uid,
            incarnation=a.identity.incarnation,
            directory_id=m.data.directory_id,
            directory_state=m.data.data.value,
            system_id=m.data.system_id,
            timeline=where.timeline if where else m.data.timeline,
            lsn=int(where.lsn) if where else None,
            history_text=m.data.history.text(),
            server_state=run.run.value if run else Run.STOPPED.value,
            holder_seen=view.holder,
            term_seen=view.record.term,
            attached_to=m.attached_to,
            healthy=ok,
            why=why,
            hot=a.settings.hot,
            free_bytes=m.free_bytes(),
            rewindable_term=m.rewindable_term,
            receiving=run.receiving if run else False,
            leaving=bool(last and last[0].leaving),
            silent=a.ear.silent(view.record.term),
            record=note.get("record"),
        ))

    def _position(self, run: Run) -> Position | None:
        a, m = self._agent, self._agent.member
        if m.data.end is not None:
            return m.data.end
        if run is Run.PRIMARY:
            return a.pulse.flushed
        if m.data.data is not Data.READY:
            return None
        receiver = a.server.receiver() if run in (Run.STANDBY, Run.RECOVERING) else None
        if receiver is not None and receiver.lsn is not None:
            record = a.gatherer.lease().record
            return Position(record.received_on(m.attached_term, m.data.timeline), receiver.lsn)
        if run in (Run.STANDBY, Run.RECOVERING, Run.STARTING):
            return self._read_exact()
        return None

    def _read_exact(self) -> Position | None:
        """Nothing is received at the moment, so pg_wal itself can be read."""
        with self._reading:
            if boottime() - self._exact_at > EXACT_EVERY:
                try:
                    self._exact = self._agent.directory.end_of_wal(
                        1.0, self._agent.member.flushed
                    )
                except Exception:  # noqa: BLE001 - not known is an answer
                    self._exact = None
                self._exact_at = boottime()
            return self._exact
