"""The shape of a rule. Owns no rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgha.actions import Action
from pgha.facts import Facts


@dataclass(frozen=True)
class Do:
    """A rule's answer: what to do, and what is particular about it this time."""

    actions: Sequence[Action] = ()
    detail: str = ""
    look_again_in: float | None = None  # seconds; None: the next event wakes the agent


@dataclass(frozen=True)
class Rule:
    """`when` gives None where the rule does not apply. `sentence` is what `pgha why` prints."""

    id: str
    sentence: str
    when: Callable[[Facts], Do | None]
