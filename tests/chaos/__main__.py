"""`python -m tests.chaos`: strikes running clusters and prints the table (`make chaos`).

Owns the command line. Exit status 1 if an invariant was broken. Histories and verdicts are kept in
the folder that it names; `--judge` prints the table of such folders again, without a lab.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lab.cluster import Lab
from tests.chaos.campaign import Campaign, judged
from tests.chaos.clusters import EARLY_MODES, MODES, standing_clusters
from tests.chaos.nemeses import NEMESES
from tests.chaos.table import Verdict, render
from tests.support.entering import enter_network
from tests.support.kube import Kube
from tests.support.namespaces import drop_all
from tests.support.program import Program


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of each nemesis in each mode")
    parser.add_argument("--modes", default=",".join(MODES), help="default: %(default)s")
    parser.add_argument("--nemeses", default=",".join(NEMESES), help="default: all")
    parser.add_argument(
        "--lasts", type=float, help="seconds that a fault lasts, for those that are undone"
    )
    parser.add_argument("--out", type=Path, help="folder for histories and verdicts")
    parser.add_argument(
        "--judge", type=Path, nargs="+", metavar="FOLDER", help="strike nothing: judge what is kept"
    )
    options = parser.parse_args(arguments)
    if options.judge:
        return say(judged(options.judge))
    nemeses = {
        name: replace(n, lasts=options.lasts) if options.lasts and n.lasts else n
        for name, n in NEMESES.items()
    }
    modes, names = options.modes.split(","), options.nemeses.split(",")
    known_modes = MODES + EARLY_MODES
    for what, given, known in (("mode", modes, known_modes), ("nemesis", names, tuple(NEMESES))):
        for each in given:
            if each not in known:
                parser.error(f"{each!r} is no {what}: choose of {', '.join(known)}")
    lab = Lab()
    lab.up()
    enter_network(lab.layout.name)
    kube = Kube(lab.kubeconfig)
    drop_all(kube)
    out: Path = options.out or lab.layout.cache.root / "chaos" / time.strftime("%Y%m%d-%H%M%S")
    with tempfile.TemporaryDirectory() as folder:
        program = Program(lab, Path(folder) / "pgha", Path(folder) / "state")
        with standing_clusters(lab, kube, program, modes) as up:
            campaign = Campaign({mode: up[mode].cluster for mode in modes}, out)
            for run in range(options.runs):
                campaign.strike([nemeses[name] for name in names], run)
    status = say(campaign.verdicts)
    print(f"histories: {out}")
    for sentence in campaign.failed:
        print(f"not tried to its end: {sentence}")
    return 1 if campaign.failed else status


def say(verdicts: Sequence[Verdict]) -> int:
    """Print the tables, by mode and over all modes; 1 if an invariant was broken, else 0."""
    print(f"\n{render(verdicts)}")
    if len({verdict.history.mode for verdict in verdicts}) > 1:
        print(f"\n{render(verdicts, over_modes=True)}")
    return 1 if any(verdict.violations for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
