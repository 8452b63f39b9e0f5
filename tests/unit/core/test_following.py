"""Whom a standby follows: the promoter that the record names, while the lease is held."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha.actions import Acquire, Attach
from pgha.facts import Branch, Claim, Data, DataView, Facts, LeaseView, Run, RunView
from pgha.lsn import LSN, History, Position
from pgha.record import Promotion, Record
from pgha.rules import decide
from pgha.settings import Settings

pytestmark = pytest.mark.unit

PROMOTER = "db-0/uid/start"
RECORD = Record(
    term=1, init="initialized", system_id=7, timeline=2, history=History(), highest_number=2,
    promotion=Promotion(1, 2, PROMOTER, done=True), primary="db-0", primary_directory="d0",
    voters=(("db-0", "d0"), ("db-1", "d1")), read_quorum=2,
)  # fmt: skip


def standby(holder: str, claim: Claim) -> Facts:
    """db-1 has run as a standby for long, and receives nothing."""
    return Facts(
        now=1000.0, me="db-1", incarnation="db-1/uid/start",
        settings=Settings(name="db", namespace="n", app_name="a", version="17"),
        declared=("db-0", "db-1"),
        lease=LeaseView(claim, holder, 20.0, RECORD),
        data=DataView(
            Data.READY, directory_id="d1", system_id=7, timeline=2, branch=Branch.SAME,
            end=Position(2, LSN(4096)),
        ),
        run=RunView(Run.STANDBY, attached_to="db-0", attached_term=1, attached_for=60.0),
        curious_for=60.0,
    )  # fmt: skip


def test_the_promoter_is_followed() -> None:
    facts = standby(PROMOTER, Claim.HELD)
    facts = replace(facts, run=replace(facts.run, attached_to=None))
    decision = decide(facts)
    assert decision.rule == "attach"
    assert decision.actions == (Attach("db-0", 1),)


def test_a_stranger_who_wrote_himself_into_the_lease_is_not_followed() -> None:
    assert decide(standby("a/stranger/1", Claim.HELD)).rule not in ("attach", "not-receiving")


@pytest.mark.parametrize("holder", [PROMOTER, "a/stranger/1"])
def test_a_free_lease_is_taken_though_nothing_is_received(holder: str) -> None:
    """The holder does not answer and its lease is over: waiting for it would be for ever."""
    decision = decide(standby(holder, Claim.EXPIRED))
    assert any(isinstance(action, Acquire) for action in decision.actions), decision
