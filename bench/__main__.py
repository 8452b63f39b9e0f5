"""`python -m bench`: measures outages and cost on the lab (`make bench`).

  run      outages of the systems under the faults; without a verb: run, cost, tables and plots
  cost     what an idle and a loaded cluster costs
  pgbench  throughput with the agent and without it
  growth   the same cluster beside many others on one API server, PostgreSQL simulated
  sizes    1 to 9 members, small and large databases (clone, rewind), rates of WAL (of pgha)
  leases   how short a lease may be: its renewals under load, a cut-off node (of pgha)
  profile  where an agent's time goes, in an idle minute and in a failover (of pgha)
  report   tables and plots of results that are there
Owns the command line and the order of trials: systems take turns, fault by fault, so that the
machine's mood hits all of them alike. Trials that were made are kept if it is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from bench import growth, leases, patroni_image, profiling, sizes, throughput
from bench.cost import measure
from bench.faults import FAULTS
from bench.patroni import DEFAULTS, MINIMUM, Patroni
from bench.reporting import make_plot_environment, print_tables, write_docs
from bench.results import keep
from bench.systems import WAYS, Pgha, System, drop_leftovers
from bench.trial import recycle, run_trial
from lab.cluster import Lab
from lab.requirements import LabError
from tests.support.entering import enter_network
from tests.support.kube import Kube, KubeError

TRIALS = 20
VERBS = ("all", "run", "cost", "pgbench", "growth", "sizes", "leases", "profile", "report")
FAILURES = (AssertionError, KubeError, LabError, psycopg.Error, OSError,
            subprocess.SubprocessError)  # fmt: skip
KNOWN = ("pgha", "patroni", "patroni-min")


def make_system(lab: Lab, kube: Kube, name: str, config: dict[str, Any]) -> System:
    if name == "pgha":
        return Pgha(lab, kube, name, config)
    return Patroni(lab, kube, name, MINIMUM if name == "patroni-min" else DEFAULTS)


@contextlib.contextmanager
def standing(
    lab: Lab, kube: Kube, names: Sequence[str], config: dict[str, Any]
) -> Iterator[dict[str, System]]:
    """The systems, up and healthy as long as the block runs."""
    drop_leftovers(kube)
    systems = {name: make_system(lab, kube, name, config) for name in names}
    try:
        for name, system in systems.items():
            started = time.monotonic()
            system.up()
            system.wait_healthy()
            say(f"{name} is up after {time.monotonic() - started:.0f} s")
        yield systems
    finally:
        lab.faults.mend_all()
        for system in systems.values():
            system.down()


def run(options: argparse.Namespace, lab: Lab, kube: Kube) -> None:
    """Trials, one line of results each; systems that stand idle cost little and are told."""
    into: Path = options.into
    into.mkdir(parents=True, exist_ok=True)
    over = time.monotonic() + options.minutes * 60
    with standing(lab, kube, options.system, options.config) as systems:
        each = itertools.product(
            range(options.trials), options.faults, options.ways, systems.items()
        )
        for number, fault, way, (name, system) in each:
            if time.monotonic() > over:
                say(f"stopped after {options.minutes:g} minutes; the results stand")
                return
            stem = f"{name}-{fault}-{time.strftime('%Y%m%d%H%M%S')}"
            try:
                trial = run_trial(system, FAULTS[fault], way, into / "attempts", stem)
                keep(into / "trials.jsonl", {**asdict(trial), "stem": stem})
                say(f"{name} {fault} {number} by {way}: {trial.ways[way]['outage']:.2f} s; "
                    f"redundant after {trial.redundant:.0f} s")  # fmt: skip
                recycle(system)
            except FAILURES as error:
                # A system that does not come back is a result, not a reason to lose others.
                say(f"{name} {fault} {number} by {way}: {str(error)[:500]}")
                failure = {"system": name, "fault": fault, "way": way, "why": str(error)[:4000]}
                keep(into / "failures.jsonl", failure)
                lab.faults.mend_all()


def cost(options: argparse.Namespace, lab: Lab, kube: Kube) -> None:
    options.into.mkdir(parents=True, exist_ok=True)
    with standing(lab, kube, options.system, options.config) as systems:
        for name, system in systems.items():
            found = measure(system, options.seconds)
            keep(options.into / "cost.jsonl", {"system": name, **found})
            say(f"{name}: {json.dumps(found)}")


def pgbench(options: argparse.Namespace, lab: Lab, kube: Kube) -> None:
    options.into.mkdir(parents=True, exist_ok=True)
    found = throughput.measure(lab, kube, options.rounds, options.seconds / 3)
    (options.into / "pgbench.json").write_text(json.dumps(found, indent=1) + "\n")
    say(f"pgbench: {json.dumps(found)}")


def grow(options: argparse.Namespace, lab: Lab, kube: Kube) -> None:
    options.into.mkdir(parents=True, exist_ok=True)
    others = growth.quiet(kube, options.seconds)
    for clusters in options.clusters:
        found = growth.measure(
            lab, kube, clusters, options.members, options.per_namespace, options.seconds,
            others, options.into,
        )  # fmt: skip
        keep(options.into / "growth.jsonl", found)
        say(f"growth: {json.dumps(found)}")


def size(options: argparse.Namespace, lab: Lab, kube: Kube) -> None:
    options.into.mkdir(parents=True, exist_ok=True)

    def kept(kind: str, figures: dict[str, Any]) -> None:
        keep(options.into / "sizes.jsonl", {"kind": kind, **figures})
        say(f"sizes: {kind} {json.dumps(figures)}")

    drop_leftovers(kube)
    sizes.measure(
        lab, kube, options.config, options.replicas, options.databases, options.seconds, kept
    )


def lease(options: argparse.Namespace, lab: Lab, kube: Kube) -> None:
    options.into.mkdir(parents=True, exist_ok=True)

    def kept(figures: dict[str, Any]) -> None:
        keep(options.into / "leases.jsonl", figures)
        say(f"leases: {json.dumps(figures)}")

    drop_leftovers(kube)
    leases.measure(lab, kube, options.config, options.leases, options.seconds, options.into, kept)


def profile(options: argparse.Namespace, lab: Lab, kube: Kube) -> None:
    options.into.mkdir(parents=True, exist_ok=True)
    spy = make_plot_environment(lab).with_name("py-spy")
    with standing(lab, kube, ["pgha"], options.config) as systems:
        system = systems["pgha"]
        found = profiling.idle(system, spy, options.seconds, options.into)
        for fault in options.faults:
            found += profiling.failover(system, FAULTS[fault], spy, options.into)
            recycle(system)
    for each in found:
        keep(options.into / "profiles.jsonl", each)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def numbers(text: str) -> list[int]:
    """`1,10,100`; argparse says the rest."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text}: every number must be 1 or more")
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("verb", nargs="?", choices=VERBS, default="all")
    parser.add_argument("--system", default=",".join(KNOWN), help="default: %(default)s")
    parser.add_argument("--faults", default=",".join(FAULTS), help="default: %(default)s")
    parser.add_argument("--ways", default=",".join(WAYS), help="in; default: %(default)s")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of each; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=600, help="no trial begins after so many")
    parser.add_argument("--seconds", type=float, default=60, help="of each reading of cost")
    parser.add_argument("--rounds", type=int, default=6, help="of pgbench, each side")
    parser.add_argument("--clusters", type=numbers, default=[1, 10, 100, 500],
                        help="of growth, one after the other; default: 1,10,100,500")  # fmt: skip
    parser.add_argument("--members", type=int, default=3, help="of each cluster of growth")
    parser.add_argument("--per-namespace", type=int, default=growth.PER_NAMESPACE,
                        help="clusters of growth that share one; default: %(default)s")  # fmt: skip
    parser.add_argument("--replicas", type=numbers, default=[1, 2, 3, 5, 9],
                        help="members, of sizes; default: 1,2,3,5,9")  # fmt: skip
    parser.add_argument("--databases", type=numbers, default=[10, 100, 1000],
                        help="MB, of sizes; default: 10,100,1000")  # fmt: skip
    parser.add_argument("--leases", type=leases.settings, default=leases.DEFAULT,
                        help="durations, of leases; default: %(default)s")  # fmt: skip
    parser.add_argument("--into", type=Path, help="folder of the results")
    parser.add_argument("--config", type=json.loads, default={},
                        help="stack config that differs from the default, as JSON")  # fmt: skip
    options = parser.parse_args(arguments)
    for what, known in (("system", KNOWN), ("faults", tuple(FAULTS)), ("ways", WAYS)):
        given = getattr(options, what).split(",")
        setattr(options, what, given)
        for each in given:
            if each not in known:
                parser.error(f"{each!r} is no {what}: choose of {', '.join(known)}")
    # Ended from outside, it still undoes its faults and takes its clusters away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lab = Lab()
    default = lab.layout.cache.root / "bench" / time.strftime("%Y%m%d-%H%M%S")
    options.into = options.into or default
    # What comes from outside first: the lab's network leads nowhere.
    if options.verb in ("all", "profile", "report"):
        make_plot_environment(lab)
    if options.verb != "report":
        several = options.verb in ("all", "run", "cost")
        if several and any(name != "pgha" for name in options.system):
            patroni_image.build(lab.layout.cache.root)
        lab.up()
        enter_network(lab.layout.name)
        kube = Kube(lab.kubeconfig)
        if options.verb in ("all", "run"):
            run(options, lab, kube)
        if options.verb in ("all", "cost"):
            cost(options, lab, kube)
        if options.verb in ("all", "pgbench"):
            pgbench(options, lab, kube)
        if options.verb == "growth":
            grow(options, lab, kube)
        if options.verb == "sizes":
            size(options, lab, kube)
        if options.verb == "leases":
            lease(options, lab, kube)
        if options.verb == "profile":
            profile(options, lab, kube)
    print_tables(options.into)
    if options.verb in ("all", "report"):
        write_docs(options.into, lab)
    print(f"results: {options.into}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
