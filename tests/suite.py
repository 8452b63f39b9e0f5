"""Runs every layer of the tests but the long ones, in order, and says how long each took.

Owns only the order: what a layer needs is in the Makefile. The pure layers run beside the build,
the simulation, which has no clock but its own, gives way to the integration tests, and what runs
whole clusters runs alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from lab.cluster import Lab

MAKE = ["make", "--no-print-directory"]
ASIDE = ["nice", "-n", "19"]  # what nothing waits for takes the time that the others leave


@dataclass
class Suite:
    """The steps so far: name, exit status, seconds."""

    done: list[tuple[str, int, float]] = field(default_factory=list)
    _printing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def failed(self) -> list[str]:
        return [name for name, status, _ in self.done if status != 0]

    def run(self, name: str, command: list[str]) -> None:
        """Run one step and print its lines, each with the step's name before it."""
        started = time.monotonic()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                with self._printing:
                    print(f"{name:>12} | {line}", end="", flush=True)
        self.done.append((name, process.returncode, time.monotonic() - started))

    def lanes(self, *lanes: list[tuple[str, list[str]]]) -> None:
        """Run lanes side by side; a lane ends at its first failure."""

        def run_lane(lane: list[tuple[str, list[str]]]) -> None:
            for name, command in lane:
                self.run(name, command)
                if name in self.failed:
                    return

        threads = [threading.Thread(target=run_lane, args=(lane,)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def report(self) -> None:
        print("\nlayer          result    time")
        for name, status, seconds in self.done:
            minutes, rest = divmod(round(seconds), 60)
            result = "ok" if status == 0 else f"FAILED {status}"
            print(f"{name:14} {result:8} {minutes:2d}:{rest:02d}")


def main() -> int:
    """All layers; 0 if every one passed."""
    started = time.monotonic()
    suite = Suite()
    lab = Lab()
    was_up = lab.network.whole()
    suite.lanes(
        [("build", [sys.executable, "-m", "lab", "build"])],
        [(name, [*MAKE, name]) for name in ("check", "unit", "component")],
    )
    if not suite.failed:
        suite.lanes(
            [("lab", [sys.executable, "-m", "lab", "up"]), ("integration", [*MAKE, "integration"])],
            [("simulation", [*ASIDE, *MAKE, "simulation"])],
        )
    # Alone: side by side on two cores the time-outs of what runs whole clusters do not hold.
    for name, target in (("e2e", "e2e"), ("chaos", "chaos-short")):
        if not suite.failed:
            suite.run(name, [*MAKE, target])
    if os.environ.get("CI") and not was_up:
        suite.run("lab down", [sys.executable, "-m", "lab", "down"])
    suite.report()
    print(
        f"everything     {'FAILED' if suite.failed else 'ok'}       "
        f"{(time.monotonic() - started) / 60:.1f} min"
    )
    return 1 if suite.failed else 0


if __name__ == "__main__":
    sys.exit(main())
