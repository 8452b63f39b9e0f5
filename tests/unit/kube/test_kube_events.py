"""Events: counting, forgetting and the limit, with a clock of its own."""

from __future__ import annotations

from typing import Any

import pytest

from pgha.kube.client import ApiError, NotFound
from pgha.kube.events import ATTEMPTS, BURST, REPEAT, EventLog

pytestmark = pytest.mark.unit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    namespace = "demo"

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.fail: list[ApiError] = []

    def request(self, method: str, path: str, body: Any = None, *_: Any, **__: Any) -> Any:
        self.requests.append((method, body))
        if self.fail:
            raise self.fail.pop(0)
        return body


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def log(server: Server, clock: Clock) -> EventLog:
    return EventLog(server, "db-0", "u", "db", clock)  # type: ignore[arg-type]


def test_repeats_become_a_count(log: EventLog, server: Server, clock: Clock) -> None:
    log.add("Pod", "R", "s", False)
    log.send()
    assert not log.pending() and log.next_due() is None
    log.add("Pod", "R", "s", False)
    log.add("Pod", "R", "s", False)
    assert not log.pending() and log.next_due() == clock.now + REPEAT
    clock.now += REPEAT
    assert log.pending()
    log.send()
    assert [method for method, _ in server.requests] == ["POST", "PATCH"]
    assert server.requests[1][1]["count"] == 3


def test_an_event_that_expired_is_made_again(
    log: EventLog, server: Server, clock: Clock
) -> None:
    log.add("Pod", "R", "s", False)
    log.send()
    log.add("Pod", "R", "s", False)
    clock.now += REPEAT
    server.fail = [NotFound(404, "NotFound", "gone")]
    log.send()
    assert [method for method, _ in server.requests] == ["POST", "PATCH", "POST"]


def test_a_flood_is_dropped_and_time_allows_more(log: EventLog, clock: Clock) -> None:
    taken = [log.add("Pod", "R", str(number), False) for number in range(2 * BURST)]
    assert taken == [True] * BURST + [False] * BURST and log.dropped == BURST
    clock.now += 12.5
    assert log.add("Pod", "R", "later", False)
    assert not log.add("Pod", "R", "too soon", False)


def test_it_gives_up(log: EventLog, server: Server) -> None:
    log.add("Pod", "R", "s", False)
    server.fail = [ApiError(500, "x", "y") for _ in range(ATTEMPTS)]
    for _ in range(ATTEMPTS - 1):
        with pytest.raises(ApiError):
            log.send()
    log.send()
    assert not log.pending() and len(server.requests) == ATTEMPTS


def test_old_ones_are_forgotten(log: EventLog, server: Server, clock: Clock) -> None:
    log.add("Lease", "R", "s", True)
    log.send()
    clock.now += 601
    log.add("Lease", "R", "s", True)
    assert log.pending()
    log.send()
    assert [method for method, _ in server.requests] == ["POST", "POST"]


def test_sentences_fit(log: EventLog, server: Server) -> None:
    log.add("Pod", "R", "x" * 5000, False)
    log.send()
    assert len(server.requests[0][1]["message"]) <= 1024


def test_only_pods_and_leases(log: EventLog) -> None:
    with pytest.raises(ValueError, match="Node"):
        log.add("Node", "R", "s", False)
