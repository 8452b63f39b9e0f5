"""The agent's metrics. Owns names, labels and units; the values are set by others.

All bear the prefix pgha_ and are documented in docs; counters start at the agent's start.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

ROLES = ("primary", "replica", "none")


class Metrics:
    """One registry of its own, so that a test or a second agent in a process has another."""

    def __init__(self, cluster: str, member: str) -> None:
        self.registry = CollectorRegistry()
        names = ["cluster", "member"]

        def gauge(name: str, text: str) -> Gauge:
            made = Gauge(name, text, names, registry=self.registry)
            made.labels(cluster, member)
            return made

        self._own = {"cluster": cluster, "member": member}
        self._role = Gauge(
            "pgha_role", "1 for the role this member has, 0 for the others.",
            [*names, "role"], registry=self.registry,
        )  # fmt: skip
        self._timeline = gauge("pgha_timeline", "Timeline of the WAL that is written or received.")
        self._lag = gauge("pgha_lag_bytes", "WAL bytes this member is behind the primary.")
        self._lease = gauge(
            "pgha_lease_seconds_left", "Seconds until this holder must stop; 0 when it holds none."
        )
        self._term = gauge("pgha_term", "Term on the Lease as this member knows it.")
        self._degraded = gauge(
            "pgha_synchronous_degraded", "1 while commits are not waiting although they should."
        )
        self._expires = Gauge(
            "pgha_certificate_expires_timestamp_seconds",
            "Unix time at which the certificate (server, member) ends.",
            [*names, "certificate"], registry=self.registry,
        )  # fmt: skip
        self._decisions = Counter(
            "pgha_decisions", "Decisions by the rule that fired.", [*names, "rule"],
            registry=self.registry,
        )  # fmt: skip
        self._failovers = Counter(
            "pgha_failovers", "Promotions of this member.", [*names, "kind"],
            registry=self.registry,
        )  # fmt: skip
        self.role("none")
        for kind in ("planned", "unplanned"):
            self._failovers.labels(**self._own, kind=kind)

    def role(self, role: str) -> None:
        """`role` is one of ROLES."""
        if role not in ROLES:
            raise ValueError(f'a member\'s role is one of {", ".join(ROLES)}, not "{role}"')
        for each in ROLES:
            self._role.labels(**self._own, role=each).set(1 if each == role else 0)

    def timeline(self, number: int) -> None:
        self._timeline.labels(**self._own).set(number)

    def lag(self, size: int | None) -> None:
        """Bytes; None (not known) is NaN."""
        self._lag.labels(**self._own).set(float("nan") if size is None else size)

    def lease_left(self, seconds: Callable[[], float]) -> None:
        """`seconds` is asked at each scrape."""
        self._lease.labels(**self._own).set_function(lambda: max(0.0, seconds()))

    def term(self, term: int) -> None:
        self._term.labels(**self._own).set(term)

    def degraded(self, degraded: bool) -> None:
        self._degraded.labels(**self._own).set(1 if degraded else 0)

    def certificate(self, which: str, ends_at: Callable[[], float]) -> None:
        """`ends_at` is asked at each scrape."""
        self._expires.labels(**self._own, certificate=which).set_function(ends_at)

    def decided(self, rule: str) -> None:
        self._decisions.labels(**self._own, rule=rule).inc()

    def failover(self, planned: bool) -> None:
        self._failovers.labels(**self._own, kind="planned" if planned else "unplanned").inc()

    def api_calls(self, calls: Tally[str]) -> None:
        """`calls` is `kube.client.Api.calls`, read at each scrape."""
        self.registry.register(_Calls(calls, self._own))


class _Calls(Collector):
    def __init__(self, calls: Tally[str], own: Mapping[str, str]) -> None:
        self._calls, self._own = calls, dict(own)

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(
            "pgha_api_requests", "Requests to the Kubernetes API by verb.",
            labels=[*self._own, "verb"],
        )  # fmt: skip
        for verb, count in sorted(self._calls.items()):
            family.add_metric([*self._own.values(), verb], count)
        yield family
