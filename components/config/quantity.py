"""Kubernetes quantities of bytes. Owns their parsing; knows no config key.

Format: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": 1,
    **{letter: 1000**power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)},
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kMGTPE]|[KMGTPE]i)?", re.ASCII)


def quantity_bytes(text: str) -> int | None:
    """Bytes, rounded up, or None when the text is no quantity of bytes greater than zero."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    exact = Decimal(match[1]) * _SUFFIXES[match[2] or ""]
    whole = int(exact.to_integral_value(rounding="ROUND_CEILING"))
    return whole or None
