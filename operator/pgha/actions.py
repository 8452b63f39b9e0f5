"""What a decision can ask for: frozen values, performed by the executor, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pgha.lsn import Position
from pgha.record import Record


@dataclass(frozen=True)
class StopServer:
    mode: Literal["fast", "immediate"]
    checkpoint_first: bool = False


@dataclass(frozen=True)
class StartStandby:
    """Start read-only, attached to nobody: standby.signal first, every time (law, point 4).

    `timeline`: follow none but this one; 0: the latest that is known here.
    """

    timeline: int = 0


@dataclass(frozen=True)
class Attach:
    member: str
    term: int


@dataclass(frozen=True)
class Detach:
    term: int


@dataclass(frozen=True)
class Acquire:
    """Compare-and-swap the Lease to this container, with the next term in `record`."""

    record: Record


@dataclass(frozen=True)
class WriteRecord:
    """Compare-and-swap the record on the Lease that is held."""

    record: Record


@dataclass(frozen=True)
class ReleaseLease:
    successor: str | None = None
    end: Position | None = None
    record: Record | None = None


@dataclass(frozen=True)
class AskVotes:
    term: int


@dataclass(frozen=True)
class AskEarlyVotes:
    """Receive nothing while the Lease stands at `version`; ask the other voters for the same."""

    term: int
    version: str


@dataclass(frozen=True)
class AskPeers:
    """Ask every declared member for its state, in the background."""


@dataclass(frozen=True)
class AskForWal:
    """Ask the primary for the WAL that is next here, in the background: what `end` is the end of.

    `attachment`: the how many-th in vain it follows.
    """

    source: str
    end: Position
    term: int
    attachment: int


@dataclass(frozen=True)
class SetSyncNames:
    value: str


@dataclass(frozen=True)
class Promote:
    number: int


@dataclass(frozen=True)
class MoveLabels:
    """`replicas_first`: the former primary may be cut off (law, point 8)."""

    primary: str
    replicas: tuple[str, ...]
    term: int
    replicas_first: bool = False


@dataclass(frozen=True)
class LabelSelf:
    role: Literal["replica"]
    term: int


@dataclass(frozen=True)
class Checkpoint:
    """CHECKPOINT without waiting; afterwards members may rewind from here."""


@dataclass(frozen=True)
class StartJob:
    kind: Literal["clone", "rewind", "initdb"]
    source: str | None = None


@dataclass(frozen=True)
class CancelJob:
    pass


@dataclass(frozen=True)
class MarkDirty:
    why: str


@dataclass(frozen=True)
class KeepSlots:
    create: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Announce:
    """An Event that people read: reason in CamelCase and one sentence."""

    kind: Literal["Normal", "Warning"]
    reason: str
    sentence: str


@dataclass(frozen=True)
class End:
    """Leave the process: the container ends."""


Action = (
    StopServer | StartStandby | Attach | Detach | Acquire | WriteRecord | ReleaseLease | AskVotes
    | AskEarlyVotes | AskPeers | AskForWal | SetSyncNames | Promote | MoveLabels | LabelSelf
    | Checkpoint | StartJob | CancelJob | MarkDirty | KeepSlots | Announce | End
)
