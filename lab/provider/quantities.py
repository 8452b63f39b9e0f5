"""Quantities of Kubernetes, such as 1Gi and 500m: their values, and how the API server words them.

Pure. Source: k8s.io/apimachinery, pkg/api/resource/quantity.go.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from lab.provider import kinds

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_SUFFIXES = {
    **{suffix: Fraction(1024) ** n for n, suffix in enumerate(_BINARY)},
    **{suffix: Fraction(10) ** exponent for exponent, suffix in _DECIMAL.items()},
}
_NANO = Fraction(1, 10**9)
"""The finest that the API server keeps; what is finer is rounded up."""

_MAPS = frozenset({"limits", "requests", "capacity", "hard", "overhead"})
_SCALARS = frozenset({"sizeLimit", "divisor"})


def quantity(given: Any) -> Fraction | None:
    """The value of a quantity, or None if it is none."""
    found = _parsed(given)
    return None if found is None else found[0]


def _parsed(given: Any) -> tuple[Fraction, str] | None:
    """Value and suffix; the suffix of scientific notation is `e`."""
    match = re.fullmatch(r"([+-]?[0-9.]+)([eE][+-]?[0-9]+)?([A-Za-z]{0,2})", str(given))
    if match is None or isinstance(given, bool) or match[3] not in _SUFFIXES:
        return None
    if match[2] and match[3]:
        return None
    try:
        value = Fraction(match[1] + (match[2] or "")) * _SUFFIXES[match[3]]
    except ValueError:
        return None
    return value, "e" if match[2] else match[3]


def canonical(given: Any) -> Any:
    """As the API server keeps it: 1024Mi is 1Gi, 0.5 is 500m. What is no quantity stays."""
    found = _parsed(given)
    if found is None:
        return given
    value, suffix = found
    away = math.ceil(abs(value) / _NANO) * _NANO
    value = away if value > 0 else -away
    if value == 0:
        return "0"
    if suffix in _BINARY[1:] and abs(value) >= 1024 and value.denominator == 1:
        number, power = int(value), 0
        while number % 1024 == 0 and power < len(_BINARY) - 1:
            number, power = number // 1024, power + 1
        return f"{number}{_BINARY[power]}"
    exponent = 18
    while value % (Fraction(10) ** exponent):
        exponent -= 3
    number = int(value / Fraction(10) ** exponent)
    if suffix == "e":
        return f"{number}e{exponent}" if exponent else f"{number}"
    return f"{number}{_DECIMAL[exponent]}"


def canonicalized(tree: Any) -> Any:
    """A copy in which every quantity of a built-in kind is canonical."""
    if isinstance(tree, list):
        return [canonicalized(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    found = {}
    for key, value in tree.items():
        if key in kinds.FREE_FORM:
            found[key] = value
        elif key in _SCALARS:
            found[key] = canonical(value)
        elif key in _MAPS and isinstance(value, dict):
            found[key] = {name: canonical(each) for name, each in value.items()}
        else:
            found[key] = canonicalized(value)
    return found
