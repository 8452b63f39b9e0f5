"""SIGTERM before there is an agent to heed it. Owns one flag; imports next to nothing.

PID 1 ignores a signal that it has no handler for, and kubelet sends SIGTERM once: what comes while
the agent is imported and wired would be lost, and SIGKILL would follow instead of a hand-over.
"""

import signal

came = False


def heed() -> None:
    """From now on a SIGTERM or SIGINT is remembered; the agent's own handlers follow."""
    signal.signal(signal.SIGTERM, _remember)
    signal.signal(signal.SIGINT, _remember)


def _remember(*_: object) -> None:
    global came
    came = True
