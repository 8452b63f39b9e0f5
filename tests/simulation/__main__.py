"""`python -m tests.simulation --seeds N [--first K]`: runs schedules, prints rate and verdict."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.schedule import Broken, Schedule


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--wide", action="store_true", help="more kinds of faults")
    parser.add_argument("--early", action="store_true", help="with quorumFailover")
    args = parser.parse_args()
    began, broken, fired = time.monotonic(), [], set()
    for seed in range(args.first, args.first + args.seeds):
        schedule = Schedule(seed, wide=args.wide, early=args.early)
        try:
            schedule.run()
        except Broken as e:
            broken.append(seed)
            if len(broken) <= 2:
                print(e)
        for member in schedule.members.values():
            fired |= member.fired
    took = time.monotonic() - began
    print(f"{args.seeds} schedules in {took:.1f} s, {args.seeds / took:.1f} a second")
    print(f"rules that fired: {len(fired)}")
    print(f"broken: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
