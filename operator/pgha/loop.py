"""One turn of the agent: gather facts, decide, act. Owns the last decision and the time of it.

The executor alone changes anything; what wakes the loop, and what it is wired to, is the agent's.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from pgha.actions import WriteRecord
from pgha.clock import boottime
from pgha.executor import Executor, NotWritten
from pgha.facts import Data, Facts, Run
from pgha.gather import Gatherer
from pgha.http.metrics import Metrics
from pgha.kube.errands import Errands
from pgha.kube.pods import STATUS_ANNOTATION
from pgha.member import Member
from pgha.pace import AT_ONCE, Backoff, Pace
from pgha.pulse import Pulse
from pgha.report import Report
from pgha.rules import Decision, decide
from pgha.settings import Times

LONGEST_NAP = 10.0  # seconds between two looks when nothing happens
PAUSE_AFTER_FAILURE = 0.5
FIRST_REFUSED = 0.05  # seconds after a record that was not written, then twice as long each time
LONGEST_REFUSED = 2.0  # seconds; there is more to be decided than what waits for the record
KEEP_AGAIN = 5.0  # seconds after which a record that could not be kept is tried again


class Loop:
    """`turn` is for one thread; `last` and `turned_at` are read by others."""

    def __init__(
        self,
        member: Member,
        gatherer: Gatherer,
        executor: Executor,
        report: Report,
        metrics: Metrics,
        errands: Errands,
        pulse: Pulse,
        times: Times,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._member, self._gatherer, self._executor = member, gatherer, executor
        self._report, self._metrics, self._errands = report, metrics, errands
        self._pulse, self._log, self._clock = pulse, report.log, clock
        self._patience = times.renew_deadline
        self._failing_since: float | None = None
        self._pace = Pace(clock)
        self._writing = Backoff(times.retry_period, clock, FIRST_REFUSED)
        self._keep_at = float("-inf")  # finite while the last try failed
        self.turned_at = clock()
        self.last: tuple[Facts, Decision] | None = None

    def turn(self) -> float:
        """One decision and its actions; the seconds until the next look."""
        self.turned_at = self._clock()
        with self._member.acting:
            try:
                facts = self._gatherer.facts()
                self._executor.settle(facts)
                decision = decide(facts)
                self.last = facts, decision
                self._tell(facts, decision)
                self._keep(facts)
            except Exception as e:
                self._failed(e)
                return PAUSE_AFTER_FAILURE
            self._failing_since = None
            nap = self._act(facts, decision)
        if facts.tenure is not None:
            nap = min(nap, facts.tenure.left)
        return max(AT_ONCE, nap)

    def _act(self, facts: Facts, decision: Decision) -> float:
        """Perform the actions; the seconds until the next look."""
        try:
            for action in decision.actions:
                self._executor.perform(action, facts)
        except NotWritten as e:
            self._log("not-written", rule=decision.rule, why=str(e))
            self._writing.failed(changed=False, asked=e.asked)
            return min(self._writing.left, LONGEST_REFUSED)
        except Exception as e:  # noqa: BLE001 - said; the next facts decide what follows
            self._log("action-failed", rule=decision.rule, why=str(e) or repr(e))
            return PAUSE_AFTER_FAILURE
        if any(isinstance(action, WriteRecord) for action in decision.actions):
            self._writing.worked()
        if decision.look_again_in is not None:
            return decision.look_again_in
        return self._pace.after(decision) if decision.actions else LONGEST_NAP

    def _failed(self, error: Exception) -> None:
        """Nothing was decided, for a reason that nobody foresaw. Raises it when it stays.

        One such turn, of two threads that met for instance, is not worth an outage. But an agent
        that goes on so would renew the lease and heed neither its loss, nor the record, nor a
        SIGTERM. After the time for which a primary may go on without the API it ends, and with it
        all in the container: its end is a death certificate, and kubelet starts it anew, later
        each time. Until then the fencer keeps to the lease, as ever.
        """
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}:{frame.lineno}"
        self._log("turn-failed", why=str(error) or repr(error), where=where)
        if self._failing_since is None:
            self._failing_since = self._clock()
        if self._clock() - self._failing_since > self._patience:
            raise error

    def _tell(self, facts: Facts, decision: Decision) -> None:
        """Tell people."""
        if self._report.decided(decision):
            self._metrics.decided(decision.rule)
            self._errands.annotate_self(STATUS_ANNOTATION, self._report.status(facts, decision))
        self._report.measure(self._metrics, facts)
        self._pulse.eager = facts.run.run is Run.PRIMARY and (
            facts.settings.synchronous and not facts.barrier.passed
            or facts.replication.missing_for > 0
            or sum(s.streaming for s in facts.replication.senders) < len(facts.others())
        )

    def _keep(self, facts: Facts) -> None:
        """Keep the record on the own disk (amendment 10), or go on without where that is full.

        Nothing rests on this copy. What a record permits is done by its holder alone, whose
        executor has it on the disk before, strictly; any other member's copy follows the watch,
        and may be late, or never come, with a disk that has room too. An older copy is no danger
        beside a newer one: a record is rebuilt from the newest of all members'. Votes and promises
        have files of their own, without which none is answered.
        """
        r = facts.record
        if facts.data.data not in (Data.READY, Data.DIRTY) or self._clock() < self._keep_at:
            return
        try:
            self._member.remember(r)
        except OSError as e:
            if self._keep_at == float("-inf"):
                self._log("record-not-kept", why=(
                    f"the record of term {r.term}, revision {r.revision} cannot be written beside "
                    f"the data directory ({e}): make room on its volume, or mend it"
                ))
            self._keep_at = self._clock() + KEEP_AGAIN
        else:
            self._keep_at = float("-inf")
