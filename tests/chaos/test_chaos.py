"""The short chaos run of `make test`: a warm asynchronous and a hot synchronous cluster, struck
side by side, and then by what harms both. `make chaos` is the long one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.cluster import Lab
from tests.chaos.campaign import keep
from tests.chaos.checker import check, outage, promotions
from tests.chaos.clusters import standing_clusters, synchronous
from tests.chaos.nemeses import NEMESES
from tests.chaos.table import Verdict, render
from tests.chaos.trial import run_trial
from tests.support.deployed import Deployed
from tests.support.kube import Kube
from tests.support.program import Program

pytestmark = pytest.mark.chaos

SIDE_BY_SIDE = {
    "warm-async": ("postmaster-kill", "agent-stop", "pod-delete", "standby-emptied"),
    "hot-sync": ("agent-kill", "freeze", "replication-cut", "switchover"),
}
# These harm a node or the API server, which the clusters share.
ALONE = (("hot-sync", "node-cut"), ("warm-async", "api-stop"))
ALL = [*((mode, name) for mode, names in SIDE_BY_SIDE.items() for name in names), *ALONE]

Verdicts = dict[tuple[str, str], Verdict]


@pytest.fixture(scope="module")
def verdicts(lab: Lab, kube: Kube, program: Program) -> Iterator[Verdicts]:
    """Every trial's verdict; the table is printed and the histories are kept."""
    out: Path = lab.layout.cache.root / "chaos" / time.strftime("short-%Y%m%d-%H%M%S")
    found: Verdicts = {}

    def strike(clusters: dict[str, Deployed], mode: str, names: Sequence[str]) -> None:
        for name in names:
            nemesis = NEMESES[name]
            history = run_trial(clusters[mode].cluster, mode, synchronous(mode), nemesis)
            verdict = Verdict(history, check(history, nemesis.bounds))
            keep(out, verdict, 0)
            found[mode, name] = verdict

    with standing_clusters(lab, kube, program, list(SIDE_BY_SIDE)) as clusters:
        with ThreadPoolExecutor(len(SIDE_BY_SIDE)) as pool:
            lanes = [pool.submit(strike, clusters, *lane) for lane in SIDE_BY_SIDE.items()]
            for lane in lanes:
                lane.result()
        for mode, name in ALONE:
            strike(clusters, mode, [name])
        print(f"\n{render(list(found.values()))}\nhistories: {out}")
        yield found


@pytest.mark.timeout(900)  # the fixture's, in the first test
@pytest.mark.parametrize(("mode", "nemesis"), ALL)
def test_no_invariant_breaks(verdicts: Verdicts, mode: str, nemesis: str) -> None:
    verdict = verdicts[mode, nemesis]
    assert [str(violation) for violation in verdict.violations] == []
    assert len(verdict.history.acknowledged("insert")) > 30, "the clients did write"
    assert len(verdict.history.acknowledged("append")) > 10, "the clients did append"


def test_a_lost_primary_is_one_promotion(verdicts: Verdicts) -> None:
    for where in (("warm-async", "agent-stop"), ("hot-sync", "freeze"), ("hot-sync", "node-cut")):
        assert promotions(verdicts[where].history) == 1, where


def test_writes_go_on_while_the_api_is_gone_for_a_minute(verdicts: Verdicts) -> None:
    """Nobody can renew, and nobody needs to: the members promise not to race."""
    history = verdicts["warm-async", "api-stop"].history
    assert history.mended - history.struck > 60.0
    assert outage(history) < 20.0  # a primary that gave up would be gone for most of the minute
    assert promotions(history) == 0
