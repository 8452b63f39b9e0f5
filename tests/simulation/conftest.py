"""Says at the end of a run how many random schedules there were, and at what rate."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Counter = Callable[[], None]
COUNTED = "schedules"


@pytest.fixture
def schedules(record_property: Callable[[str, object], None]) -> Counter:
    """To be called after each random schedule that kept the invariants."""
    return lambda: record_property(COUNTED, 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for r in terminalreporter.stats.get("passed", []) if r.when == "call"]
    counted = {r.nodeid: r for r in reports if any(k == COUNTED for k, _ in r.user_properties)}
    number = sum(k == COUNTED for r in counted.values() for k, _ in r.user_properties)
    seconds = sum(r.duration for r in counted.values())
    if number:
        terminalreporter.write_line(
            f"{number} random schedules in {seconds:.0f} s, {number / seconds:.1f} a second"
        )
