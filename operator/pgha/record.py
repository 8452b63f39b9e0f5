"""The record on the Lease: what all members agree on. Owns its shape, nothing that happens to it.

It is JSON in the annotation `pgha.dev/record`. Only the holder changes it, by compare-and-swap.
Keys that this version does not know are kept; a record that asks for a newer reader is refused.

Quorum, as recorded here (docs/decisions/quorum.md): `voters` are data directories, the holder's
among them. A commit acknowledged in Synchronous mode is in the holder's directory and in those of
`W` others, and before a promotion `read_quorum` of the voters are heard. As two sets of sizes
W + 1 and R out of |V| must meet, R + W + 1 > |V| holds at every instant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from pgha.lsn import LSN, History, Position

READER = 1
Init = Literal["none", "initializing", "initialized"]


class RecordError(ValueError):
    """The annotation holds no record that this agent may act on; the text says why."""


@dataclass(frozen=True)
class Promotion:
    """An intended or completed promotion: one per term. `early`: voters may take the lease from it
    before it ends (docs/decisions/quorum-failover.md)."""

    term: int
    number: int
    promoter: str
    done: bool = False
    early: bool = False


@dataclass(frozen=True)
class Release:
    """The mark of a holder that gave the lease back by itself."""

    by: str
    term: int
    successor: str | None = None


@dataclass(frozen=True)
class Waived:
    """A person's waiver of the quorum that was used, and what was accepted as lost by it."""

    id: str
    term: int  # of the promotion whose commits may be lost
    used: int  # the term that promoted without a quorum
    member: str
    missing: tuple[str, ...]  # the voters that were not heard


@dataclass(frozen=True)
class Record:
    """Immutable; changed copies are made with `dataclasses.replace`.

    `revision` counts the changes (not the renewals) since the cluster's birth. Within a term only
    its holder writes, so (term, revision) orders all records that ever stood on the Lease.
    """

    term: int = 0
    revision: int = 0
    init: Init = "none"
    system_id: int | None = None
    timeline: int = 0
    history: History = field(default_factory=History)
    highest_number: int = 0
    promotion: Promotion | None = None
    primary: str | None = None
    primary_directory: str | None = None
    voters: tuple[tuple[str, str], ...] = ()
    read_quorum: int = 1
    write_quorum: int = 0
    degraded: bool = False
    end: Position | None = None  # of the WAL of a primary that was shut down for good
    flushed: Position | None = None  # a lower bound of the primary's WAL, as of a renewal
    release: Release | None = None
    switched: str | None = None
    waived: Waived | None = None  # the last one that was used
    waiver_refused: str | None = None  # the last one that found a primary
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def voter_names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.voters)

    def votes(self, name: str, directory_id: str | None) -> bool:
        """Does this data directory count? Another id under the same name does not."""
        return directory_id is not None and (name, directory_id) in self.voters

    def led_by(self, name: str, directory_id: str | None) -> bool:
        """Was this directory the last primary's? Then nobody else may have all that is in it."""
        return self.primary == name and self.primary_directory == directory_id

    def received_on(self, attached_term: int, known: int) -> int:
        """The timeline that a standby receives which attached in this term, and whose directory was
        last read on `known`: it is read only while nothing is received."""
        return max(known, self.timeline) if attached_term == self.term else known

    @property
    def quorum_knows(self) -> bool:
        """Do any R voters have every acknowledged commit among them? (docs/decisions/quorum.md)"""
        return self.write_quorum > 0 and not self.degraded

    def with_voter(self, name: str, directory_id: str) -> Record:
        kept = [(n, d) for n, d in self.voters if n != name]
        return replace(self, voters=tuple(sorted([*kept, (name, directory_id)])))

    def without_voter(self, name: str) -> Record:
        return replace(self, voters=tuple(v for v in self.voters if v[0] != name))

    def flushed_to(self, flushed: Position | None, term: int) -> Record:
        """With how far the WAL of the primary of `term` goes. What the holder flushed as a former
        primary says nothing of the last one, which may have been another (law, point 15)."""
        p = self.promotion
        if flushed is None or p is None or not p.done or p.term != term:
            return self
        return replace(self, flushed=flushed) if flushed.timeline == p.number else self

    def outdates(self, kept: str | None) -> bool:
        """May this replace the record that was kept as `kept`? A newer one is never given up."""
        try:
            return self.stamp >= Record.parse(kept).stamp
        except RecordError:
            return True

    @property
    def stamp(self) -> tuple[int, int]:
        return self.term, self.revision

    @property
    def open_intent(self) -> Promotion | None:
        return self.promotion if self.promotion and not self.promotion.done else None

    def dump(self) -> str:
        known: dict[str, Any] = {
            "minReader": READER,
            "term": self.term,
            "revision": self.revision,
            "init": self.init,
            "systemId": str(self.system_id) if self.system_id is not None else None,
            "timeline": self.timeline,
            "history": self.history.text(),
            "highestNumber": self.highest_number,
            "primary": self.primary,
            "primaryDirectory": self.primary_directory,
            "voters": dict(self.voters),
            "readQuorum": self.read_quorum,
            "writeQuorum": self.write_quorum,
            "degraded": self.degraded,
            "switched": self.switched,
            "waiverRefused": self.waiver_refused,
        }
        if self.promotion:
            p = self.promotion
            known["promotion"] = {
                "term": p.term, "number": p.number, "promoter": p.promoter, "done": p.done,
                "early": p.early,
            }
        for key, position in (("end", self.end), ("flushed", self.flushed)):
            if position:
                known[key] = {"timeline": position.timeline, "lsn": str(position.lsn)}
        if self.release:
            r = self.release
            known["release"] = {"by": r.by, "term": r.term, "successor": r.successor}
        if self.waived:
            w = self.waived
            known["waived"] = {
                "id": w.id, "term": w.term, "used": w.used, "member": w.member,
                "missing": list(w.missing),
            }
        return json.dumps({**self.unknown, **known}, sort_keys=True, separators=(",", ":"))

    @classmethod
    @lru_cache(maxsize=32)  # the same text comes with each renewal and each answer of a peer
    def parse(cls, text: str | None) -> Record:
        """The record in an annotation's text; an absent annotation is the empty record.

        Raises RecordError: nothing may be guessed from a record that cannot be read.
        """
        if not text:
            return cls()
        try:
            given = json.loads(text)
            if not isinstance(given, dict):
                raise TypeError("it is not an object")
            if int(given.get("minReader", 1)) > READER:
                raise RecordError(
                    f"the record asks for a reader of version {given['minReader']} and this agent "
                    f"is version {READER}: update the operator image"
                )
            return cls._of(given)
        except RecordError:
            raise
        except (
            ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
        ) as e:
            raise RecordError(
                f"the record on the Lease cannot be read ({e}): restore the annotation "
                "pgha.dev/record, or remove it to have it rebuilt from all members"
            ) from e

    @classmethod
    def _of(cls, given: dict[str, Any]) -> Record:
        init = given.get("init", "none")
        if init not in ("none", "initializing", "initialized"):
            raise ValueError(f"init is {init!r}")
        term, revision, read, write = (int(given.get(k, d)) for k, d in (
            ("term", 0), ("revision", 0), ("readQuorum", 1), ("writeQuorum", 0)
        ))
        if term < 0 or revision < 0 or read < 1 or write < 0:
            raise ValueError(
                f"term {term}, revision {revision}, readQuorum {read}, writeQuorum {write}"
            )
        promotion = release = waived = None
        if p := given.get("promotion"):
            promotion = Promotion(
                int(p["term"]), int(p["number"]), str(p["promoter"]), p.get("done") is True,
                p.get("early") is True,
            )
        if r := given.get("release"):
            release = Release(str(r["by"]), int(r["term"]), _text(r.get("successor")))
        if w := given.get("waived"):
            waived = Waived(
                str(w["id"]), int(w["term"]), int(w["used"]), str(w["member"]),
                tuple(str(n) for n in w.get("missing") or ()),
            )
        system = given.get("systemId")
        return cls(
            term=term,
            revision=revision,
            init=init,
            system_id=None if system is None else int(system),
            timeline=int(given.get("timeline", 0)),
            history=History.parse(str(given.get("history", ""))),
            highest_number=int(given.get("highestNumber", 0)),
            promotion=promotion,
            primary=_text(given.get("primary")),
            primary_directory=_text(given.get("primaryDirectory")),
            voters=tuple(sorted((str(n), str(d)) for n, d in (given.get("voters") or {}).items())),
            read_quorum=read,
            write_quorum=write,
            degraded=given.get("degraded") is True,
            end=_position(given.get("end")),
            flushed=_position(given.get("flushed")),
            release=release,
            switched=_text(given.get("switched")),
            waived=waived,
            waiver_refused=_text(given.get("waiverRefused")),
            unknown={k: v for k, v in given.items() if k not in _KNOWN},
        )


_KNOWN = frozenset(
    "minReader term revision init systemId timeline history highestNumber primary "
    "primaryDirectory voters readQuorum writeQuorum degraded switched promotion end flushed "
    "release waived waiverRefused".split()
)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _position(value: Any) -> Position | None:
    return Position(int(value["timeline"]), LSN.parse(str(value["lsn"]))) if value else None
