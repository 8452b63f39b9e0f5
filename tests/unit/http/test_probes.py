"""Probes and metrics over loopback."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgha.http.metrics import Metrics
from pgha.http.probes import MAX_THREADS, Probes

pytestmark = pytest.mark.unit


class State:
    ready = (True, "a healthy replica")
    broken = False


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("db", "db-0")


@pytest.fixture
def probes(state: State, metrics: Metrics) -> Iterator[Probes]:
    def live() -> tuple[bool, str]:
        if state.broken:
            raise RuntimeError("a bug")
        return True, "alive"

    made = Probes(0, lambda: state.ready, live, metrics.registry, "127.0.0.1").start()
    yield made
    made.stop()


def get(probes: Probes, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{probes.port}{path}")
    request.add_header("Accept", accept)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers["Content-Type"]


def test_readiness_follows_the_check(probes: Probes, state: State) -> None:
    assert get(probes, "/readyz")[:2] == (200, "a healthy replica\n")
    assert get(probes, "/readyz?verbose=1")[0] == 200
    state.ready = (False, "the WAL receiver is not streaming")
    assert get(probes, "/readyz")[:2] == (503, "the WAL receiver is not streaming\n")


def test_a_check_that_fails_is_not_ready(
    probes: Probes, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "pgha.http.probes")
    assert get(probes, "/livez")[0] == 200
    state.broken = True
    status, text, _ = get(probes, "/livez")
    assert status == 503 and "a bug" in text and "Traceback" not in text


def test_other_paths_are_not_there(probes: Probes) -> None:
    assert get(probes, "/")[0] == 404
    assert get(probes, "/readyz/x")[0] == 404


def test_slow_clients_delay_nobody(probes: Probes) -> None:
    slow = [socket.create_connection(("127.0.0.1", probes.port)) for _ in range(3 * MAX_THREADS)]
    try:
        for each in slow[::2]:
            each.sendall(b"GET /readyz HT")  # and the others say nothing at all
        for _ in range(5):
            assert get(probes, "/readyz")[0] == 200
    finally:
        for each in slow:
            each.close()


def test_a_request_in_pieces(probes: Probes) -> None:
    with socket.create_connection(("127.0.0.1", probes.port), 10) as sock:
        for part in (b"GET /rea", b"dyz HTTP/1.1\r\nHo", b"st: x\r\n\r\n"):
            sock.sendall(part)
            threading.Event().wait(0.02)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_nonsense_is_answered(probes: Probes) -> None:
    with socket.create_connection(("127.0.0.1", probes.port), 10) as sock:
        sock.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 400")


def test_metrics_in_both_formats(probes: Probes, metrics: Metrics) -> None:
    metrics.role("primary")
    metrics.timeline(3)
    metrics.term(7)
    metrics.lag(None)
    metrics.lease_left(lambda: 4.5)
    metrics.degraded(True)
    metrics.decided("P1")
    metrics.decided("P1")
    metrics.failover(planned=False)
    metrics.api_calls(Counter({"PUT": 5}))
    status, text, kind = get(probes, "/metrics")
    assert status == 200 and kind.startswith("text/plain")
    found = {
        (sample.name, *(v for k, v in sorted(sample.labels.items())
                        if k not in ("cluster", "member"))): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }  # fmt: skip
    assert found[("pgha_role", "primary")] == 1 and found[("pgha_role", "replica")] == 0
    assert found[("pgha_timeline",)] == 3 and found[("pgha_term",)] == 7
    assert found[("pgha_lease_seconds_left",)] == 4.5
    assert found[("pgha_synchronous_degraded",)] == 1
    assert found[("pgha_decisions_total", "P1")] == 2
    assert found[("pgha_failovers_total", "unplanned")] == 1
    assert found[("pgha_failovers_total", "planned")] == 0
    assert found[("pgha_api_requests_total", "PUT")] == 5
    assert found[("pgha_lag_bytes",)] != found[("pgha_lag_bytes",)]  # NaN: not known
    status, text, kind = get(probes, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text") and text.endswith("# EOF\n")


def test_every_metric_names_cluster_and_member(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        for sample in family.samples:
            assert sample.labels["cluster"] == "db" and sample.labels["member"] == "db-0"


def test_a_role_that_is_none() -> None:
    with pytest.raises(ValueError, match="leader"):
        Metrics("db", "db-0").role("leader")
