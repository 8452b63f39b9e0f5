"""The first start of a cluster, and the record that was lost (law, point 11; amendments 10, 19).

`initdb` runs once: when no initialization is on the record, and every declared member is there
and reports itself empty. The lowest ordinal does it, holding the lease. Where it was completed and
the lease lost before that was on the record, that very member takes the lease again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pgha.actions import Acquire, AskPeers, StartJob, WriteRecord
from pgha.facts import Claim, Data, Facts, Run
from pgha.record import Record, RecordError
from pgha.rules.rule import Do, Rule
from pgha.settings import ordinal

CLAIMABLE = (Claim.RELEASED, Claim.EXPIRED, Claim.DEAD, Claim.OWN_DEAD)


def _all_answer(f: Facts) -> bool:
    return bool(f.declared) and all(f.fresh(n) is not None for n in f.others())


def _unheard(f: Facts, members: Iterable[str]) -> Do | None:
    """Ask, while one of them has not answered."""
    unheard = [n for n in members if f.fresh(n) is None]
    if not unheard:
        return None
    return Do([AskPeers()], "not heard yet: " + ", ".join(unheard), look_again_in=0.3)


def _full(f: Facts) -> list[str]:
    """The other members that have data; all of them were heard."""
    return [n for n in f.others() if f.peers[n].data not in (Data.EMPTY, Data.INITIALIZING)]


def _claim_birth(f: Facts) -> Do | None:
    if f.holds or f.record.init == "initialized" or f.data.data not in (
        Data.EMPTY, Data.INITIALIZING
    ):
        return None
    # Vacant is enough here: a primary has data, and every member is heard to have none.
    if f.lease.claim not in (*CLAIMABLE, Claim.VACANT):
        return None
    if not f.declared or f.me not in f.declared:
        return Do((), "the number of declared members is not known yet", look_again_in=1.0)
    if asked := _unheard(f, f.others()):
        return asked
    if full := _full(f):
        return Do(
            [AskPeers()],
            f"{', '.join(full)} has data though the record knows of none",
            look_again_in=1.0,
        )
    begun = [n for n in f.declared if n != f.me and f.peers[n].data is Data.INITIALIZING]
    first = min(begun or f.declared, key=ordinal)
    if f.data.data is Data.INITIALIZING:
        first = min([f.me, *begun], key=ordinal)
    if first != f.me:
        return Do((), f"{first} initializes", look_again_in=1.0)
    return Do([Acquire(replace(f.record, term=f.record.term + 1, init="initializing"))])


def _claim_again(f: Facts) -> Do | None:
    """`initdb` was completed here, and the lease was lost before that was on the record.

    The record says that it was begun, when all were empty; a member that was in use since would
    have kept a later one. So nobody was let in (amendment 19), and where nobody else has data this
    is the cluster's.
    """
    d = f.data
    if f.holds or f.record.init != "initializing" or d.data is not Data.READY:
        return None
    if d.timeline != 1 or d.directory_id is None or f.me not in f.declared:
        return None
    if f.lease.claim not in (*CLAIMABLE, Claim.VACANT):
        return None
    if asked := _unheard(f, f.declared):
        return asked
    if f.peers[f.me].record is not None or _full(f):
        return None
    return Do([Acquire(replace(f.record, term=f.record.term + 1))])


def _run_birth(f: Facts) -> Do | None:
    if not f.holds or f.record.init != "initializing":
        return None
    if f.job.running:
        return Do((), "initdb runs")
    if f.data.data in (Data.EMPTY, Data.INITIALIZING):
        if f.job.failed and f.job.retry_in > 0:
            return Do((), f.job.failed, look_again_in=f.job.retry_in)
        return Do([StartJob("initdb")])
    if f.data.data is not Data.READY or f.data.directory_id is None:
        return None
    born = replace(
        f.record,
        init="initialized",
        system_id=f.data.system_id,
        timeline=f.data.timeline,
        history=f.data.history,
        highest_number=f.data.timeline,
        primary=f.me,
        primary_directory=f.data.directory_id,
        voters=((f.me, f.data.directory_id),),
        read_quorum=1,
        write_quorum=0,
        end=f.data.end,
    )
    return Do([WriteRecord(born)])


def best_note(f: Facts) -> Record | None:
    """The newest record that any member kept on its disk."""
    best: Record | None = None
    for peer in f.peers.values():
        try:
            seen = Record.parse(peer.record) if peer.record else None
        except RecordError:
            continue
        if seen is not None and (best is None or seen.stamp > best.stamp):
            best = seen
    return best


def _rebuild(f: Facts) -> Do | None:
    """A Lease that lost its record while members have data: amendment 10."""
    if f.holds or f.record.init == "initialized" or f.data.data is not Data.READY:
        return None
    if f.lease.claim not in CLAIMABLE:
        return None
    if not _all_answer(f) or f.me not in f.peers or f.peers[f.me].age > 3.0:
        unheard = [n for n in f.declared if f.fresh(n) is None]
        return Do([AskPeers()], "not heard yet: " + ", ".join(unheard), look_again_in=0.3)
    note = best_note(f)
    if note is None or note.init != "initialized":
        return Do(
            [AskPeers()],
            "no member kept a record of this cluster: nothing is guessed; see docs/runbook.md",
            look_again_in=2.0,
        )
    # Whoever took the lease after that record votes in it, and has kept a later one beside its
    # directory, which a copy leaves there. So without one of its voters, or with a new volume, it
    # may not be the last: where its primary ended would prove nothing.
    untold = sorted(
        name for name in note.voter_names
        if (peer := f.fresh(name)) is None or peer.record is None
    )
    if untold:
        return Do(
            [AskPeers()],
            f"{', '.join(untold)} may have known of a later record than any that is left, and is "
            "not there with what it kept: see docs/runbook.md",
            look_again_in=2.0,
        )
    ranked = sorted(
        (p for p in f.peers.values() if p.data is Data.READY and p.position is not None
         and p.system_id == note.system_id and note.votes(p.name, p.directory_id)),
        key=lambda p: ((p.position.timeline, p.position.lsn) if p.position else (0, 0),
                       -ordinal(p.name)),
        reverse=True,
    )
    if not ranked or ranked[0].name != f.me:
        return Do([AskPeers()], f"{ranked[0].name if ranked else 'nobody'} rebuilds it",
                  look_again_in=0.5)
    rebuilt = replace(note, term=max(note.term, f.record.term) + 1, release=None)
    return Do([Acquire(rebuilt)], "from the records that the members kept")


def _wait_for_birth(f: Facts) -> Do | None:
    if f.holds or f.record.init == "initialized" or f.data.data is Data.READY:
        return None
    if f.lease.claim is Claim.UNKNOWN or f.run.run is not Run.STOPPED:
        return None
    return Do((), f"{f.lease.holder_pod or 'nobody'} holds the lease", look_again_in=2.0)


RULES = (
    Rule("birth-run", "The cluster is initialized here, once, under the lease.", _run_birth),
    Rule(
        "birth-claim",
        "All members are empty: one of them initializes the cluster.",
        _claim_birth,
    ),
    Rule(
        "birth-again",
        "The cluster was initialized here, which is not on the record: the lease is taken again.",
        _claim_again,
    ),
    Rule(
        "record-lost",
        "The Lease has no record but there is data: the record is rebuilt from all members.",
        _rebuild,
    ),
    Rule("birth-wait", "Another member initializes the cluster.", _wait_for_birth),
)
