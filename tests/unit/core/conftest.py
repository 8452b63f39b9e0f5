"""A keeper for a test, to whom no answer is lost."""

from __future__ import annotations

import pytest

from tests.unit.core.keeping import Ground


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    made = Ground()
    monkeypatch.setattr(made.world.random, "random", lambda: 1.0)  # no answer is lost
    return made
