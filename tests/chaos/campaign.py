"""Strikes every cluster by every nemesis. Owns what may be struck beside what, and what is kept.

A nemesis that harms one cluster strikes all of them side by side; one that is the same harm
everywhere strikes them in one blow; one that harms a neighbour strikes alone.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.clients import RATE
from tests.chaos.clusters import EARLY_MODES, synchronous
from tests.chaos.history import History
from tests.chaos.nemeses import NEMESES, Nemesis
from tests.chaos.table import Verdict, render
from tests.chaos.together import Together
from tests.chaos.trial import run_trial
from tests.support.postgres import Cluster


@dataclass
class Campaign:
    """`clusters` by mode; histories and verdicts are kept in the folder `out`."""

    clusters: Mapping[str, Cluster]
    out: Path
    verdicts: list[Verdict] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def strike(self, nemeses: Sequence[Nemesis], run: int) -> None:
        """Once by each of them. Whatever ends it, also Ctrl-C, no other trial begins."""
        alone = [n for n in nemeses if n.shared]
        together = [n for n in nemeses if n.everywhere]
        own = [n for n in nemeses if not n.shared and not n.everywhere]
        with ThreadPoolExecutor(len(self.clusters)) as pool, self._ending():
            self._side_by_side(pool, own, run)
            for nemesis in together:
                harm = Together(nemesis.harm, len(self.clusters))
                self._side_by_side(pool, [replace(nemesis, harm=harm)], run)
            for nemesis in alone:
                for mode in self.clusters:
                    self._trials(mode, [nemesis], run)

    def _side_by_side(self, pool: ThreadPoolExecutor, nemeses: list[Nemesis], run: int) -> None:
        for lane in [pool.submit(self._trials, mode, nemeses, run) for mode in self.clusters]:
            lane.result()

    def _trials(self, mode: str, nemeses: Sequence[Nemesis], run: int) -> None:
        # However many clusters, one machine bears the same load of fresh connections.
        every = RATE * len(self.clusters)
        for nemesis in nemeses:
            if self._over.is_set():
                return
            try:
                history = run_trial(
                    self.clusters[mode], mode, synchronous(mode), nemesis, every=every
                )
            except Exception as error:  # noqa: BLE001 - said at the end; the other trials go on
                self.failed.append(f"{nemesis.name} {mode} {run}: {error!r}")
                print(self.failed[-1], flush=True)
                if isinstance(nemesis.harm, Together):
                    nemesis.harm.give_up()
                continue
            verdict = judge(history)
            self.verdicts.append(verdict)
            keep(self.out, verdict, run)
            print(render([verdict]).split("\n", 1)[1], flush=True)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._over.set()
            raise


def judge(history: History) -> Verdict:
    """What the checker says of one trial."""
    nemesis = NEMESES[history.nemesis]
    early = history.mode in EARLY_MODES
    bounds = nemesis.early(history.neighbours) if early else nemesis.bounds
    return Verdict(history, check(history, bounds))


def judged(folders: Sequence[Path]) -> list[Verdict]:
    """The kept histories of these folders, in the order of the nemeses' table."""
    order = list(NEMESES)
    found = [judge(History.load(p)) for folder in folders for p in sorted(folder.glob("*.jsonl"))]
    return sorted(found, key=lambda verdict: order.index(verdict.history.nemesis))


def keep(out: Path, verdict: Verdict, run: int) -> None:
    """The history and its verdict as files."""
    history = verdict.history
    stem = f"{history.mode}-{history.nemesis}-{run}"
    history.save(out / f"{stem}.jsonl")
    said = [str(violation) for violation in verdict.violations]
    (out / f"{stem}.verdict.json").write_text(json.dumps(said, indent=1) + "\n")
