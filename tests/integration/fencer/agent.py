"""An agent for the fencer's tests: it does what lines of JSON on stdin say and answers on stdout.

Run as PID 1 of a PID namespace (then the guard uses --namespace) or as an ordinary process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pgha.fencer.fencer import process_table
from pgha.fencer.guard import Guard


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def chain() -> None:
    """A process that is never the same for long: each child leaves its parent's session."""
    if os.fork() != 0:
        return
    while True:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        time.sleep(0.0005)


def others(guard: Guard) -> list[int]:
    """Who lives in this PID namespace besides this process and the fencer."""
    spared = {os.getpid(), guard.pid}
    return [pid for pid, (_, _, alive) in process_table().items() if alive and pid not in spared]


def child(argument: object) -> int:
    """Start a sleep and wait for its command line, by which the tests know it.

    Popen returns when the exec has closed its pipe, and the kernel writes the command line later:
    up to 50 ms later where every core is busy. One that the fencer ends meanwhile never gets it.
    """
    command = ["sleep", str(argument)]
    started = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    shown = Path(f"/proc/{started.pid}/cmdline")
    while started.poll() is None:
        with contextlib.suppress(OSError):  # ended and reaped meanwhile
            if shown.read_bytes().startswith(b"sleep"):
                break
        time.sleep(0.001)
    return started.pid


def obey(guard: Guard, what: str, argument: Any) -> Any:
    if what == "allow":
        guard.allow_until(None if argument is None else boottime() + argument)
    elif what == "child":
        return child(argument)
    elif what == "orphan":
        # The shell ends at once, so its child has no parent that is ours.
        subprocess.run(["sh", "-c", f"setsid sleep {argument} >/dev/null 2>&1 &"], check=True)
    elif what == "chain":
        chain()
    elif what == "ping":
        return guard.ping(argument)
    elif what == "others":
        return others(guard)
    elif what == "close":
        assert guard._pipe is not None
        guard._lock.acquire()  # or the guard would notice and start another fencer
        guard._pipe.shutdown(2)
    elif what == "state":
        confirmed = guard.confirmed
        return {
            "pid": guard.pid,
            "alive": guard.alive(1.0),
            "confirmed_in": None if confirmed is None else confirmed - boottime(),
            "fenced_at": guard.fenced_at,
            "starts": guard.starts,
        }
    return None


def main() -> None:
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reap orphans, as an init does
    guard = Guard(hung_after=1.0).start()
    for line in sys.stdin:
        print(json.dumps(obey(guard, *json.loads(line))), flush=True)
    guard.stop()


if __name__ == "__main__":
    main()
