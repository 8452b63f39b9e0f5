"""The bell of the agent's loop: rung by watches, threads and signal handlers. Owns one eventfd.

Not a threading.Event: its lock is not reentrant, so a handler that runs while the loop is inside
the same Event would wait for itself for ever.
"""

from __future__ import annotations

import os
import select


class Bell:
    """`ring` is safe in a signal handler and in any thread; `wait` is for the loop alone."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def ring(self) -> None:
        os.eventfd_write(self._fd, 1)

    def wait(self, timeout: float) -> bool:
        """Until rung, or `timeout` seconds; takes all the rings so far."""
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return False
        os.eventfd_read(self._fd)
        return True
