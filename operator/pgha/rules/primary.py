"""The life of a primary: labels, the first checkpoint, slots, the quorum, requests."""

from __future__ import annotations

from dataclasses import replace

from pgha import quorum
from pgha.actions import (
    Announce,
    AskPeers,
    Checkpoint,
    KeepSlots,
    MoveLabels,
    SetSyncNames,
    WriteRecord,
)
from pgha.facts import Facts, Run
from pgha.rules import room, waiver
from pgha.rules.leaving import switching
from pgha.rules.rule import Do, Rule


def _reigns(f: Facts) -> bool:
    return f.holds and f.promoted and f.run.run is Run.PRIMARY and not f.leaving


def _labels(f: Facts) -> Do | None:
    if not _reigns(f) or "labels" in f.pending or f.me not in f.pods:
        return None
    assert f.tenure is not None
    stale = tuple(n for n, p in f.pods.items() if n != f.me and p.role == "primary")
    if f.pods[f.me].role == "primary" and not stale:
        return None
    return Do([MoveLabels(f.me, stale, f.tenure.term)])


def _checkpoint(f: Facts) -> Do | None:
    if not _reigns(f) or f.tenure is None or f.run.asked_checkpoint_term == f.tenure.term:
        return None
    return Do([Checkpoint()])


def _first_slots(f: Facts) -> Do | None:
    """At once, since no standby can follow before its slot is here."""
    if not _reigns(f) or f.tenure is None or not f.declared:
        return None
    if f.run.asked_slots_term == f.tenure.term:
        return None
    return Do([KeepSlots(f.others())])


def _slots(f: Facts) -> Do | None:
    if not _reigns(f) or f.replication.age > 30 or not f.declared or "slots" in f.pending:
        return None
    wanted = set(f.others())
    have = f.replication.slots
    create = tuple(sorted(n for n in wanted if slot_of(n) not in have))
    lost = {s for s, kept in have.items() if not kept}
    ours = {s for s in have if s.startswith("pgha_")}
    drop = tuple(sorted((ours - {slot_of(n) for n in wanted}) | (lost & ours)))
    return Do([KeepSlots(create, drop)]) if create or drop else None


def slot_of(member: str) -> str:
    """The name of a member's replication slot: lower case letters, digits and underscores."""
    return "pgha_" + "".join(c if c.isalnum() else "_" for c in member.lower())


def standing(f: Facts) -> quorum.Standing:
    """The facts as the quorum's plan wants them."""
    streaming = frozenset(s.name for s in f.replication.senders if s.streaming)
    return quorum.Standing(
        me=f.me,
        declared=f.declared,
        synchronous=f.settings.synchronous,
        strict=f.settings.strict,
        wanted=f.settings.min_sync_replicas,
        told=f.run.told,
        active=f.replication.sync_names if f.replication.age < 3.0 else None,
        barrier=f.barrier.passed and f.barrier.names == f.replication.sync_names,
        streaming=streaming,
        directories={
            s.name: s.directory_id for s in f.replication.senders
            if s.streaming and s.directory_id is not None
        },
        caught_up=frozenset(s.name for s in f.replication.senders if s.caught_up),
        missing_for=f.replication.missing_for,
        degrade_after=f.settings.times.degrade_after,
    )


def _identify(f: Facts) -> Do | None:
    """A walsender that is new: which directory is behind it?"""
    if not _reigns(f):
        return None
    unknown = [
        s.name for s in f.replication.senders
        if s.streaming and s.directory_id is None and s.name in f.declared
    ]
    if not unknown:
        return None
    asking = "peers" in f.pending
    return Do([] if asking else [AskPeers()], ", ".join(unknown), look_again_in=0.3)


def _quorum(f: Facts) -> Do | None:
    if not _reigns(f) or not f.declared or f.replication.age > 30:
        return None
    step = quorum.plan(f.record, standing(f))
    if step is None:
        return None
    if isinstance(step, quorum.SetNames):
        if f.lease.unsettled and quorum.quorum_of(step.value) < quorum.quorum_of(
            f.replication.sync_names or ""
        ):
            # The record that is known may be the old one: a later write settles that first.
            return Do([WriteRecord(f.record)], "an earlier write may have landed")
        return Do([SetSyncNames(step.value)], step.value or "nobody", look_again_in=0.1)
    actions: list[WriteRecord | Announce] = [WriteRecord(step.record)]
    if step.record.degraded and not f.record.degraded:
        actions.append(Announce(
            "Warning", "Degraded",
            "commits are acknowledged without a standby: fewer than minSyncReplicas stream",
        ))
    if f.record.degraded and not step.record.degraded:
        actions.append(Announce("Normal", "Synchronous", "commits wait for standbys again"))
    return Do(actions, step.why)


def _switchover_refused(f: Facts) -> Do | None:
    if not _reigns(f) or not switching(f) or f.replication.age > 3.0:
        return None
    assert f.request is not None
    to = f.request.to or "any standby"
    return Do(
        [
            WriteRecord(replace(f.record, switched=f.request.id)),
            Announce(
                "Warning", "SwitchoverRefused",
                f"switchover to {to} refused: no voter of that name streams from {f.me}; "
                "see `pgha status`",
            ),
        ],
        to,
    )


def _disk_full(f: Facts) -> Do | None:
    """Nobody to move to: see rules/leaving.py for where there is."""
    if not _reigns(f) or not room.full(f):
        return None
    said = room.said(f, "it stays the primary, as no standby with every byte is known to have more "
                        "room; grow the claim or make room")
    return Do([] if "peers" in f.pending else [AskPeers(), said], look_again_in=2.0)


def _waiver_refused(f: Facts) -> Do | None:
    """Or it would be armed for the day on which this primary is lost."""
    if not _reigns(f) or (w := waiver.valid(f)) is None:
        return None
    return Do(
        [
            WriteRecord(replace(f.record, waiver_refused=w.id)),
            Announce(
                "Warning", "WaiverRefused",
                f"the waiver of the quorum of term {w.term} is void: {f.me} is the primary",
            ),
        ],
        w.member,
    )


def _steady(f: Facts) -> Do | None:
    return Do((), look_again_in=2.0) if _reigns(f) else None


RULES = (
    Rule("move-labels", "The role labels follow the lease.", _labels),
    Rule("first-slots", "The members get their replication slots here.", _first_slots),
    Rule("first-checkpoint", "A checkpoint lets members rewind from the new timeline.",
         _checkpoint),
    Rule("quorum-step", "The quorum moves one safe step towards what is declared.", _quorum),
    Rule("identify", "A new standby streams; it is asked which directory it has.", _identify),
    Rule("slots", "Each member has a replication slot here.", _slots),
    Rule(
        "switchover-refused",
        "A switchover was asked for, but nobody who may take over is streaming.",
        _switchover_refused,
    ),
    Rule("waiver-refused", "A waiver of the quorum is void while there is a primary.",
         _waiver_refused),
    Rule("disk-full", "The primary's disk is full, and no standby has every byte and room.",
         _disk_full),
    Rule("primary", "This member is the primary and all is well.", _steady),
)
