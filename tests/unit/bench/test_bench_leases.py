"""Short leases: the settings as they are given, and the longest time without a renewal."""

from __future__ import annotations

import argparse

import pytest

from bench.leases import DEFAULT, longest, settings
from bench.sights import Sight

pytestmark = pytest.mark.unit


def test_settings_are_three_numbers_each() -> None:
    assert settings("15/10/2,4/3/1") == [(15, 10, 2), (4, 3, 1)]
    assert settings(DEFAULT)[0] == (15, 10, 2)
    with pytest.raises(argparse.ArgumentTypeError, match="as 15/10/2"):
        settings("15/10")


def test_the_longest_time_without_a_renewal_is_between_two_that_were_seen() -> None:
    seen = [Sight(at, "renewal", "ha", str(at)) for at in (7.0, 1.0, 2.5)]
    assert longest(seen) == 4.5
    assert longest(seen[:1]) == 0.0
