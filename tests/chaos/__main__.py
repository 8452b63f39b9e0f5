"""`python -m tests.chaos`: strikes running clusters and prints the table (`make chaos`).

The modes' clusters are struck side by side, but for what harms them all.

Owns the command line. Exit status 1 if an invariant was broken. Histories and verdicts are kept in
the folder that it names.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lab.cluster import Lab
from tests.chaos.checker import check
from tests.chaos.clusters import EARLY_MODES, MODES, standing_clusters, synchronous
from tests.chaos.nemeses import NEMESES
from tests.chaos.table import Verdict, render
from tests.chaos.trial import run_trial
from tests.support.entering import enter_network
from tests.support.kube import Kube
from tests.support.namespaces import drop_all
from tests.support.postgres import Cluster
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
    options = parser.parse_args(arguments)
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
    verdicts: list[Verdict] = []
    failed: list[str] = []

    def strike(cluster: Cluster, mode: str, name: str, run: int) -> None:
        try:
            history = run_trial(cluster, mode, synchronous(mode), nemeses[name])
        except Exception as error:  # noqa: BLE001 - said at the end; the other trials go on
            failed.append(f"{name} {mode} {run}: {error}")
            print(failed[-1], flush=True)
            return
        bounds = nemeses[name].early if mode in EARLY_MODES else nemeses[name].bounds
        verdict = Verdict(history, check(history, bounds))
        verdicts.append(verdict)
        keep(out, verdict, run)
        print(render([verdict]).split("\n", 1)[1], flush=True)

    def strike_alone(cluster: Cluster, mode: str, run: int) -> None:
        for name in names:
            if not nemeses[name].shared:
                strike(cluster, mode, name, run)

    with tempfile.TemporaryDirectory() as folder:
        program = Program(lab, Path(folder) / "pgha", Path(folder) / "state")
        with standing_clusters(lab, kube, program, modes) as up, ThreadPoolExecutor() as pool:
            clusters = {mode: up[mode].cluster for mode in modes}
            for run in range(options.runs):
                lanes = [pool.submit(strike_alone, c, mode, run) for mode, c in clusters.items()]
                for lane in lanes:
                    lane.result()
                for name in names:
                    for mode, cluster in clusters.items():
                        if nemeses[name].shared:
                            strike(cluster, mode, name, run)
    print(f"\n{render(verdicts)}\nhistories: {out}")
    for sentence in failed:
        print(f"not tried to its end: {sentence}")
    return 1 if failed or any(verdict.violations for verdict in verdicts) else 0


def keep(out: Path, verdict: Verdict, run: int) -> None:
    """The history and its verdict as files."""
    history = verdict.history
    stem = f"{history.mode}-{history.nemesis}-{run}"
    history.save(out / f"{stem}.jsonl")
    said = [str(violation) for violation in verdict.violations]
    (out / f"{stem}.verdict.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
