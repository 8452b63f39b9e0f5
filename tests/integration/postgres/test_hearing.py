"""A standby hears its primary's kernel, not its processes: what counts as silence for
quorumFailover (docs/decisions/quorum-failover.md)."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pgha.ear import Ear
from pgha.member import Member
from pgha.postgres.sockets import heard_ago, of_process
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import Node, eventually, one_version

pytestmark = pytest.mark.integration


def pair() -> tuple[Node, Node]:
    primary = Node("ha-0").leading()
    return primary, Node("ha-1", port=5433).following(primary)


@one_version
def test_a_primary_whose_processes_stand_still_is_heard(image: Place) -> None:
    """Each reply of the standby, one a second, is acknowledged by the primary's kernel."""
    primary, standby = pair()
    receiver = standby.server.receiver()
    assert receiver is not None
    inodes = of_process(receiver.pid)
    for pid, _ in primary.server._titles("walsender"):
        os.kill(pid, signal.SIGSTOP)
    ages = []
    until = time.monotonic() + 4.0
    eventually("four seconds", lambda: ages.append(heard_ago(inodes)) or time.monotonic() > until)
    assert all(age is not None and age < 2.0 for age in ages), max(a or 99 for a in ages)


@one_version
def test_a_receiver_that_sends_nothing_hears_nothing(image: Place) -> None:
    """The nearest to a cut link that one machine has: nothing is sent, nothing comes."""
    primary, standby = pair()
    receiver = standby.server.receiver()
    assert receiver is not None
    inodes = of_process(receiver.pid)
    os.kill(receiver.pid, signal.SIGSTOP)
    eventually("silence", lambda: (heard_ago(inodes) or 0.0) > 2.5)
    os.kill(receiver.pid, signal.SIGCONT)
    eventually("it is heard again", lambda: (heard_ago(inodes) or 9.0) < 0.5, 3.0)
    assert standby.server.detach(10.0)
    assert heard_ago(inodes) is None, "the connection is gone"


@one_version
def test_the_ear_counts_in_the_term_of_the_attachment(image: Place) -> None:
    primary, standby = pair()
    member = Member(standby.directory)
    member.attached_to, member.attached_term = "ha-0", 7
    ear = Ear(member, standby.server.receiver, 1.5, lambda: None, lambda *a, **k: None)

    def hears(seconds: float) -> bool:
        ear.listen()
        silent = ear.silent(7)
        return silent is not None and silent < seconds

    eventually("it hears", lambda: hears(1.2))
    assert ear.silent(8) is None
    assert standby.server.detach(10.0)
    member.attached_to = None
    eventually("silence goes on without a receiver", lambda: not hears(1.5), 10.0)
