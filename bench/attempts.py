"""What a probe writes down: one attempt at one write. Owns the form of its file, no judgement.

Times are seconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["fresh", "persistent"]
# ok: acknowledged. no: certainly not done. unknown: sent, and no answer came.
Outcome = Literal["ok", "no", "unknown"]


@dataclass(frozen=True)
class Attempt:
    """`due`: when the open loop wanted it to begin; `begun` later by the probe's own delay."""

    kind: Kind
    number: int
    due: float
    begun: float
    ended: float
    outcome: Outcome
    server: str
    why: str = ""


def dump(attempts: Iterable[Attempt], file: Path) -> None:
    with file.open("w") as out:
        for attempt in attempts:
            out.write(json.dumps(astuple(attempt)) + "\n")


def load(file: Path) -> list[Attempt]:
    return [Attempt(*json.loads(line)) for line in file.read_text().splitlines()]
