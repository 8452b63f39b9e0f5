"""What happened in one trial, as data. Owns the shape of a history and its file; judges nothing.

All times are seconds of one monotonic clock: clients, watchers and the striker share a machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["ok", "fail", "unknown"]


@dataclass(frozen=True)
class Op:
    """One operation of a client.

    `ok`: acknowledged. `fail`: it cannot have happened. `unknown`: it may have.
    `seen` is the list that an append returned, its own element included.
    """

    kind: Literal["insert", "append"]
    client: Literal["fresh", "persistent"]
    id: int
    key: int
    start: float
    end: float
    outcome: Outcome
    server: str = ""
    timeline: int = 0
    seen: tuple[int, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Roles:
    """The pods labelled primary from this moment on."""

    at: float
    primaries: tuple[str, ...]


@dataclass(frozen=True)
class Lease:
    """The Lease's record as a watch showed it."""

    at: float
    holder: str | None
    term: int
    timeline: int
    promoter: str | None = None
    promotion_term: int = 0
    number: int = 0
    done: bool = False
    degraded: bool = False
    voters: dict[str, str] = field(default_factory=dict)  # member -> id of its data directory


@dataclass
class History:
    """One trial: what was struck, what clients saw, what is in the database afterwards."""

    nemesis: str = ""
    mode: str = ""
    synchronous: bool = False
    neighbours: list[str] = field(default_factory=list)  # members on the node of the primary
    struck: float = 0.0
    mended: float = 0.0
    redundant: float = 0.0
    ended: float = 0.0
    ops: list[Op] = field(default_factory=list)
    roles: list[Roles] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    lists: dict[int, list[int]] = field(default_factory=dict)

    def acknowledged(self, kind: str | None = None) -> list[Op]:
        return [op for op in self.ops if op.outcome == "ok" and kind in (None, op.kind)]

    def lines(self) -> Iterator[str]:
        """One JSON object a line: the frame first, then each event."""
        frame = {
            key: value for key, value in asdict(self).items()
            if key not in ("ops", "roles", "leases")
        }  # fmt: skip
        yield json.dumps({"frame": frame})
        for name, events in (("op", self.ops), ("roles", self.roles), ("lease", self.leases)):
            for event in events:
                yield json.dumps({name: asdict(event)})

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines()) + "\n")

    @staticmethod
    def load(path: Path) -> History:
        history = History()
        for line in path.read_text().splitlines():
            ((name, value),) = json.loads(line).items()
            if name == "frame":
                lists = {int(key): items for key, items in value.pop("lists").items()}
                history = History(**value, lists=lists)
            elif name == "op":
                history.ops.append(Op(**{**value, "seen": tuple(value["seen"])}))
            elif name == "roles":
                history.roles.append(Roles(value["at"], tuple(value["primaries"])))
            else:
                history.leases.append(Lease(**value))
        return history
