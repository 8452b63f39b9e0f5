"""One harm for the trials of several clusters, for what they all share anyway.

Owns the meeting: the trials strike at one moment, the first to arrive does the harm and undoes it,
and nobody goes on before it is done or undone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tests.chaos.harm.processes import Harm
from tests.support.postgres import Cluster, Pod

PATIENCE = 240.0  # seconds that one trial waits for the slowest


class Together:
    """A `Harm` that `parties` trials enter, each in a thread of its own."""

    def __init__(self, harm: Harm, parties: int) -> None:
        self._harm = harm
        self._meeting = threading.Barrier(parties, timeout=PATIENCE)

    def give_up(self) -> None:
        """A trial failed: the others must not wait for it."""
        self._meeting.abort()

    @contextlib.contextmanager
    def __call__(self, cluster: Cluster, primary: Pod) -> Iterator[None]:
        """Raises threading.BrokenBarrierError if another trial failed; the harm is undone."""
        try:
            with contextlib.ExitStack() as undoing:
                if self._meeting.wait() == 0:
                    undoing.enter_context(self._harm(cluster, primary))
                self._meeting.wait()
                yield
                self._meeting.wait()  # all of them have written for as long as the fault lasts
            self._meeting.wait()
        except BaseException:
            self.give_up()
            raise
