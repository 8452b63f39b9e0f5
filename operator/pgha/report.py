"""What people see: one line of JSON per decision, the pod's status annotation, the metrics."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime

from pgha.facts import Facts, Run
from pgha.http.metrics import Metrics
from pgha.rules import Decision


class Report:
    """Prints to stdout, which is the container's log."""

    def __init__(self, member: str) -> None:
        self._member = member
        self._last: tuple[str, str] | None = None
        self._lock = threading.Lock()
        self._promoted_term = 0

    def log(self, event: str, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"at": now, "member": self._member, "event": event}
        known = {k: v for k, v in facts.items() if v is not None}
        line = {**head, **known, **head}  # first, and no fact takes the place of one of these
        with self._lock:
            print(json.dumps(line, default=str), flush=True, file=sys.stdout)

    def decided(self, decision: Decision) -> bool:
        """Log a decision that is new; True if it was."""
        key = decision.rule, decision.detail if decision.actions else ""
        if key == self._last:
            return False
        changed = self._last is None or self._last[0] != decision.rule
        self._last = key
        if changed or decision.actions:
            self.log(
                "decision", rule=decision.rule, why=decision.sentence, detail=decision.detail,
                actions=[type(a).__name__ for a in decision.actions],
            )
        return changed

    def status(self, facts: Facts, decision: Decision) -> str:
        return json.dumps({
            "rule": decision.rule, "why": decision.sentence, "detail": decision.detail[:300],
            "run": facts.run.run.value, "term": facts.record.term,
            "timeline": _timeline(facts),
        })

    def measure(self, metrics: Metrics, facts: Facts) -> None:
        primary = facts.run.run is Run.PRIMARY and facts.promoted
        metrics.role(
            "primary" if primary else "replica" if facts.run.run is Run.STANDBY else "none"
        )
        metrics.timeline(_timeline(facts))
        metrics.term(facts.record.term)
        metrics.degraded(facts.record.degraded)
        known, mine = facts.record.flushed, facts.peers.get(facts.me)
        if primary:
            metrics.lag(0)
        elif known and mine and mine.position:
            metrics.lag(max(0, int(known.lsn) - int(mine.position.lsn)))
        if primary and facts.tenure and facts.tenure.term != self._promoted_term:
            if facts.record.term > 2:
                metrics.failover(planned=facts.record.end is not None)
            self._promoted_term = facts.tenure.term


def _timeline(facts: Facts) -> int:
    """Which WAL is written to or received; where neither is, the one that it was last seen on."""
    run, known = facts.run, facts.data.timeline
    return facts.record.received_on(run.attached_term, known) if run.receiving else known
