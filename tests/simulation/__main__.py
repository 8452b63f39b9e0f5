"""`python -m tests.simulation --seeds N`: runs schedules on every core and says at what rate
(`make sim SEEDS=N`). Owns the command line. Exit status 1 if a schedule broke an invariant."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.simulation.schedule import Broken, Schedule

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide": {"wide": True},  # more kinds of faults, and decisions that are performed late
    "early": {"wide": True, "early": True},  # those too, with quorumFailover
}
EACH = 25  # schedules of one task
SHOWN = 2  # histories of broken schedules; of the others the seed


@dataclass(frozen=True)
class Result:
    """What one schedule showed; `broken` is the history of a broken one."""

    kind: str
    seed: int
    acknowledged: int
    fired: frozenset[str]
    broken: str = ""


def run(kind: str, seed: int) -> Result:
    schedule, broken, acknowledged = Schedule(seed, **KINDS[kind]), "", 0
    try:
        acknowledged = schedule.run()
    except Broken as error:
        broken = str(error)
    return Result(kind, seed, acknowledged, schedule.fired, broken)


def run_some(kind: str, seeds: range) -> list[Result]:
    return [run(kind, seed) for seed in seeds]


def tasks(kinds: list[str], first: int, schedules: int) -> list[tuple[str, range]]:
    """Equally many of each kind, at least `schedules` in all."""
    end = first - (-schedules // len(kinds))
    return [
        (kind, range(start, min(start + EACH, end)))
        for start in range(first, end, EACH)
        for kind in kinds
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="schedules in all")
    parser.add_argument("--first", type=int, default=0, help="the first seed of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",")
    for kind in kinds:
        if kind not in KINDS:
            parser.error(f"{kind!r} is no kind of schedule: choose of {', '.join(KINDS)}")
    if os.environ.get("PYTHONHASHSEED") != "0":
        parser.error("a seed gives the same schedule again only with PYTHONHASHSEED=0: set it")
    began = time.monotonic()
    results: list[Result] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        work = tasks(kinds, options.first, options.seeds)
        for some in pool.map(run_some, *zip(*work, strict=True)):
            for result in some:
                results.append(result)
                if result.broken and sum(bool(r.broken) for r in results) <= SHOWN:
                    print(f"{result.kind} {result.broken}", flush=True)
            if len(results) % 1000 < len(some):
                rate = len(results) / (time.monotonic() - began)
                print(f"{len(results)} schedules, {rate:.1f} a second", flush=True)
    return say(results, time.monotonic() - began)


def say(results: list[Result], took: float) -> int:
    """Print the rate and what each kind showed; 1 if anything is broken, else 0."""
    print(f"{len(results)} schedules in {took:.1f} s, {len(results) / took:.1f} a second")
    for kind in dict.fromkeys(result.kind for result in results):
        of_kind = [result for result in results if result.kind == kind]
        broken = [result.seed for result in of_kind if result.broken]
        print(
            f"{kind:5}  seeds {of_kind[0].seed} to {of_kind[-1].seed}, "
            f"{sum(result.acknowledged for result in of_kind)} commits acknowledged, "
            f"{len(frozenset().union(*(r.fired for r in of_kind)))} rules fired, "
            f"broken: {broken or 'none'}"
        )
    return 1 if any(result.broken for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
