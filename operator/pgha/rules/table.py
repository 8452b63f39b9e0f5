"""The table itself: the order of the rules is the order of their importance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgha.actions import Action
from pgha.facts import Facts
from pgha.rules import (
    birth,
    election,
    holder,
    leaving,
    primary,
    promotion,
    rejoin,
    safety,
    suspect,
)
from pgha.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *safety.RULES,
    *leaving.RULES,
    *birth.RULES,
    *holder.RULES,
    *promotion.RULES,
    *primary.RULES,
    *suspect.RULES,
    *rejoin.RULES,
    *election.RULES,
)


@dataclass(frozen=True)
class Decision:
    rule: str
    sentence: str
    detail: str
    actions: tuple[Action, ...]
    look_again_in: float | None


def decide(facts: Facts, rules: Sequence[Rule] = RULES) -> Decision:
    """The first rule that applies. The last rule of the table always does."""
    for rule in rules:
        answer = rule.when(facts)
        if answer is not None:
            return Decision(
                rule.id, rule.sentence, answer.detail, tuple(answer.actions), answer.look_again_in
            )
    raise AssertionError("the last rule of the table applies to anything")
