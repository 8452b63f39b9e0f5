"""`python -m tests.chaos`: strikes running clusters and prints the table (`make chaos`).

The modes' clusters are struck side by side, by what harms them all in one strike.

Owns the command line. Exit status 1 if an invariant was broken. Histories and verdicts are kept in
the folder that it names; `--judge` prints the table of such folders again, without a lab.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lab.cluster import Lab
from tests.chaos.checker import check
from tests.chaos.clients import RATE
from tests.chaos.clusters import EARLY_MODES, MODES, standing_clusters, synchronous
from tests.chaos.history import History
from tests.chaos.nemeses import NEMESES, Nemesis
from tests.chaos.table import Verdict, render
from tests.chaos.together import Together
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
    chosen = [nemeses[name] for name in names]
    lab = Lab()
    lab.up()
    enter_network(lab.layout.name)
    kube = Kube(lab.kubeconfig)
    drop_all(kube)
    out: Path = options.out or lab.layout.cache.root / "chaos" / time.strftime("%Y%m%d-%H%M%S")
    verdicts: list[Verdict] = []
    failed: list[str] = []

    over = threading.Event()

    def strike(cluster: Cluster, mode: str, nemesis: Nemesis, run: int) -> None:
        if over.is_set():
            return
        try:
            # However many modes, one machine bears the same load of fresh connections.
            every = RATE * len(modes)
            history = run_trial(cluster, mode, synchronous(mode), nemesis, every=every)
        except Exception as error:  # noqa: BLE001 - said at the end; the other trials go on
            failed.append(f"{nemesis.name} {mode} {run}: {error!r}")
            print(failed[-1], flush=True)
            if isinstance(nemesis.harm, Together):
                nemesis.harm.give_up()
            return
        verdict = judge(history)
        verdicts.append(verdict)
        keep(out, verdict, run)
        print(render([verdict]).split("\n", 1)[1], flush=True)

    own = [n for n in chosen if not n.shared and not n.everywhere]

    def strike_alone(cluster: Cluster, mode: str, run: int) -> None:
        for nemesis in own:
            strike(cluster, mode, nemesis, run)

    with tempfile.TemporaryDirectory() as folder:
        program = Program(lab, Path(folder) / "pgha", Path(folder) / "state")
        pool = ThreadPoolExecutor(len(modes))
        with standing_clusters(lab, kube, program, modes) as up, pool, ending(over):
            clusters = {mode: up[mode].cluster for mode in modes}
            for run in range(options.runs):
                lanes = [pool.submit(strike_alone, c, mode, run) for mode, c in clusters.items()]
                for lane in lanes:
                    lane.result()
                for nemesis in (n for n in chosen if n.everywhere):
                    one = replace(nemesis, harm=Together(nemesis.harm, len(clusters)))
                    lanes = [pool.submit(strike, c, mode, one, run) for mode, c in clusters.items()]
                    for lane in lanes:
                        lane.result()
                for nemesis in (n for n in chosen if n.shared):
                    for mode, cluster in clusters.items():
                        strike(cluster, mode, nemesis, run)
    status = say(verdicts)
    print(f"histories: {out}")
    for sentence in failed:
        print(f"not tried to its end: {sentence}")
    return 1 if failed else status


@contextlib.contextmanager
def ending(over: threading.Event) -> Iterator[None]:
    """Whatever ends the block, also Ctrl-C, no other trial begins."""
    try:
        yield
    finally:
        over.set()


def judge(history: History) -> Verdict:
    """What the checker says of one trial."""
    nemesis = NEMESES[history.nemesis]
    bounds = nemesis.early if history.mode in EARLY_MODES else nemesis.bounds
    return Verdict(history, check(history, bounds))


def judged(folders: Sequence[Path]) -> list[Verdict]:
    """The kept histories of these folders, in the order of the nemeses' table."""
    order = list(NEMESES)
    found = [judge(History.load(p)) for folder in folders for p in sorted(folder.glob("*.jsonl"))]
    return sorted(found, key=lambda verdict: order.index(verdict.history.nemesis))


def say(verdicts: Sequence[Verdict]) -> int:
    """Print the tables, by mode and over all modes; 1 if an invariant was broken, else 0."""
    print(f"\n{render(verdicts)}")
    if len({verdict.history.mode for verdict in verdicts}) > 1:
        print(f"\n{render(verdicts, over_modes=True)}")
    return 1 if any(verdict.violations for verdict in verdicts) else 0


def keep(out: Path, verdict: Verdict, run: int) -> None:
    """The history and its verdict as files."""
    history = verdict.history
    stem = f"{history.mode}-{history.nemesis}-{run}"
    history.save(out / f"{stem}.jsonl")
    said = [str(violation) for violation in verdict.violations]
    (out / f"{stem}.verdict.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
