"""The table as people see it, and that every rule is alive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgha.rules import RULES
from pgha.rules.document import markdown

ROOT = Path(__file__).parents[3]

@pytest.mark.unit
def test_ids_are_unique_and_readable() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", i) for i in ids)
    assert all(rule.sentence.endswith(".") for rule in RULES)


@pytest.mark.unit
def test_the_page_is_current() -> None:
    """`python -m pgha rules > docs/rules.md`"""
    assert (ROOT / "docs" / "rules.md").read_text() == markdown()
