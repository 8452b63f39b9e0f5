"""Where the time of an outage went. Pure: from sights to seconds after the fault.

Each phase is the moment of its first sign after the fault; what cannot be seen of a system is left
out. `detect` is the first decision that an agent logs which it had not taken before the fault, and
only this project's agents log them. `endpoint` is the first slice without the old address alone
that holds the new one; `reconnect` is the end of the outage as the client saw it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.sights import Sight

PHASES = ("detect", "stopped", "acquire", "promote", "label", "endpoint", "reconnect")
# What an agent says while nothing happens.
IDLE = ("follow", "primary", "wait", "slots", "quorum-step", "identify", "not-receiving")


def phases(sights: Sequence[Sight], struck: float, ended: float) -> dict[str, float]:
    """Phase -> seconds after the fault; `ended`: when the outage did."""
    later = sorted((s for s in sights if struck <= s.at <= ended + 1.0), key=lambda s: s.at)
    before = sorted((s for s in sights if s.at < struck), key=lambda s: s.at)
    found: dict[str, float] = {}

    def first(name: str, *whats: str, shown: str = "") -> None:
        for sight in later:
            if sight.what in whats and (not shown or sight.shown == shown):
                found.setdefault(name, sight.at - struck)
                return

    standing = {s.who: s.shown.split(" ")[0] for s in before if s.what == "agent decision"}
    for sight in later:
        rule = sight.shown.split(" ")[0]
        news = sight.what in ("agent postgres-ended", "agent fenced")
        if news or sight.what == "agent decision" and rule not in (*IDLE, standing.get(sight.who)):
            found["detect"] = sight.at - struck
            break
    first("stopped", "server stopped", "agent postgres-ended")
    # A holder that lets go shows an empty one first.
    for sight in later:
        if sight.what == "acquire" and sight.shown not in ("", "gone"):
            found["acquire"] = sight.at - struck
            break
    first("promote", "server promoted")
    for name in ("primary", "master"):
        first("label", "label", shown=name)
    old = [s.shown for s in before if s.what == "endpoint"]
    for sight in later:
        if sight.what == "endpoint" and sight.shown and sight.shown not in old[-1:]:
            found["endpoint"] = sight.at - struck
            break
    found["reconnect"] = ended - struck
    return {name: found[name] for name in PHASES if name in found}
