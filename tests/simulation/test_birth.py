"""The first start, cut off between the end of `initdb` and its record."""

from __future__ import annotations

import pytest

from pgha.kube.errors import ApiUnreachable
from pgha.kube.leases import RawLease
from pgha.record import Record
from tests.simulation.cluster import SimulatedLease
from tests.simulation.schedule import RECORD, Schedule

pytestmark = pytest.mark.simulation


@pytest.mark.parametrize("dies", [False, True])
def test_an_initialization_that_is_not_on_the_record_is_put_there_later(
    dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = next(s for s in range(100) if len(Schedule(s).members) == 3)
    schedule = Schedule(seed)
    world, cut = schedule.world, []
    real = SimulatedLease.write

    def write(self: SimulatedLease, lease: RawLease, timeout: float) -> RawLease:
        born = Record.parse(lease.annotations.get(RECORD)).init == "initialized"
        if born and not cut:
            cut.append(self._member)
            if dies:
                schedule.members[self._member].die(2.0)
            else:
                world.api_cut.add(self._member)
            raise ApiUnreachable("it never left", ambiguous=False)
        return real(self, lease, timeout)

    monkeypatch.setattr(SimulatedLease, "write", write)
    while world.now < 1020.0:
        schedule._step()
    world.api_cut.clear()
    schedule._until(world.now + 60.0, "the cluster comes up", True)
    first = schedule.members[cut[0]]
    assert "birth-again" in first.fired and schedule.record().primary == first.name
    assert schedule.acknowledged
