"""A standby that is cut off is missed before PostgreSQL gives its connection up."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pgha.pulse import EAGER, Pulse
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import Node, eventually, one_version

pytestmark = pytest.mark.integration


@one_version
def test_a_receiver_that_is_silent_is_missed_while_it_is_listed(image: Place) -> None:
    primary = Node("ha-0").leading()
    standby = Node("ha-1", port=5433).following(primary)
    pulse = Pulse(
        primary.sql, is_primary=lambda: True, timeline=lambda: 2,
        directory_of=lambda name, since: "d", wanted=lambda: (1, frozenset({"ha-1"})),
        wake=lambda: None,
    )  # fmt: skip
    pulse.begin()

    def missing() -> float:
        time.sleep(EAGER)  # as often as the pulse looks while something is pending
        pulse._take()
        return pulse.replication.missing_for

    for _ in range(6):  # nothing is written but what the pulse writes itself
        missing()
    assert missing() == 0 and pulse.replication.senders[0].caught_up
    receiver = standby.server.receiver()
    assert receiver is not None
    os.kill(receiver.pid, signal.SIGSTOP)
    eventually("it is missed", lambda: missing() > 2.0)
    assert primary.heard() == {"ha-1"}, "wal_sender_timeout is not over"
    assert not pulse.replication.senders[0].caught_up
    os.kill(receiver.pid, signal.SIGCONT)
    eventually("it is back", lambda: missing() == 0)
