"""What comes before anything else: who may not write stops writing, who may not touch keeps off."""

from __future__ import annotations

from pgha.actions import CancelJob, End, StopServer
from pgha.facts import Data, Facts, Run
from pgha.rules.rule import Do, Rule


def _foreign_owner(f: Facts) -> Do | None:
    if not f.data.owner_foreign:
        return None
    # What this agent knows of the directory is not true any more: the next one reads it anew, once
    # it is this pod's again (arrival.py).
    jobs = [CancelJob()] if f.job.running else []
    act = End() if f.run.run is Run.STOPPED else StopServer("immediate")
    return Do([*jobs, act], f.data.owner_foreign, look_again_in=1.0)


def _fenced(f: Facts) -> Do | None:
    if f.fenced and f.run.run is not Run.STOPPED:
        return Do([StopServer("immediate")])
    return None


def _writable(f: Facts) -> bool:
    """Or on the way to it: a promotion that was asked for cannot be called back."""
    return f.run.run is Run.PRIMARY or (f.run.promoting > 0 and f.run.run is not Run.STOPPED)


def _lease_lost(f: Facts) -> Do | None:
    return Do([StopServer("immediate")]) if _writable(f) and not f.holds else None


def _of_another_tenure(f: Facts) -> Do | None:
    """Promoted, or being promoted, by an intent that is not this tenure's."""
    p = f.record.promotion
    if not _writable(f) or f.tenure is None or (
        p is not None and p.term == f.tenure.term and p.promoter == f.incarnation
    ):
        return None
    if f.job.running and f.job.kind == "initdb" and f.record.init == "initializing":
        return None  # its private server, which is stopped before anybody else may come
    return Do([StopServer("immediate")])


def _initialising_without_lease(f: Facts) -> Do | None:
    if f.job.running and f.job.kind == "initdb" and not f.holds:
        return Do([CancelJob()])
    return None


def _fencer_silent(f: Facts) -> Do | None:
    if f.run.run is Run.PRIMARY and not f.fencer_answers:
        return Do([StopServer("immediate")])
    return None


def _refused_directory(f: Facts) -> Do | None:
    foreign = (
        f.data.system_id is not None
        and f.record.system_id is not None
        and f.record.init == "initialized"
        and f.data.system_id != f.record.system_id
    )
    if f.data.data is not Data.REFUSED and not foreign:
        return None
    why = f.data.why
    if foreign:
        why = (
            f"the directory's system identifier is {f.data.system_id} and the cluster's is "
            f"{f.record.system_id}: move the directory away, or restore the claim that belongs here"
        )
    if f.run.run is not Run.STOPPED:
        return Do([StopServer("fast")], why)
    if f.leaving:
        return Do([End()], why)
    return Do((), why, look_again_in=5.0)


FOREIGN = Rule(
    "foreign-owner",
    "The data directory may be in use by another pod, so nothing here opens it.",
    _foreign_owner,
)
RULES = (
    FOREIGN,
    Rule("fenced", "The fencer has struck, so what is left of PostgreSQL is stopped.", _fenced),
    Rule(
        "lease-lost",
        "PostgreSQL could accept writes without the lease, so it is stopped at once.",
        _lease_lost,
    ),
    Rule(
        "promotion-of-before",
        "PostgreSQL was promoted in a tenure that is over, so it starts anew in this one.",
        _of_another_tenure,
    ),
    Rule(
        "birth-without-lease",
        "The lease was lost during initialization, which is given up.",
        _initialising_without_lease,
    ),
    Rule(
        "fencer-silent",
        "The fencer does not answer, so PostgreSQL may not stay writable.",
        _fencer_silent,
    ),
    Rule(
        "refused-directory",
        "The data directory is not this cluster's or cannot be run; it is kept and not touched.",
        _refused_directory,
    ),
)
