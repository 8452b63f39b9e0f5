"""Growth: what is read from metrics, what is counted for one cluster, PostgreSQL as a number."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pytest

from bench.__main__ import numbers
from bench.growth import Agents, lines, row
from bench.scrape import Server, read, samples, total
from bench.simulated import (
    GROWTH,
    Ground,
    Place,
    SimulatedCopies,
    SimulatedDirectory,
    SimulatedServer,
    SimulatedSql,
)
from pgha.lsn import LSN, Switch
from pgha.postgres.conf import ServerConf
from pgha.postgres.directory import DirectoryState
from pgha.postgres.server import ServerState
from pgha.settings import Settings

pytestmark = pytest.mark.unit

API = """\
# HELP apiserver_request_total Counter of requests.
apiserver_request_total{code="200",resource="leases",verb="PUT"} 40
apiserver_request_total{code="409",resource="leases",verb="PUT"} 2
apiserver_request_total{code="200",resource="pods",verb="WATCH"} 7
apiserver_request_total_of_another{verb="PUT"} 1000
process_cpu_seconds_total 12.5
"""
ETCD = """\
process_cpu_seconds_total 3
etcd_debugging_mvcc_total_put_size_in_bytes 1.5e+06
etcd_mvcc_put_total 100
etcd_mvcc_db_total_size_in_use_in_bytes 4096
"""


def test_metrics_are_read_by_name_and_verb() -> None:
    found = read(lambda: API, lambda: ETCD)
    assert dict(found.writes) == {"PUT": 42.0}, "reads are no writes, nor is another metric"
    assert (found.api_cpu, found.etcd_cpu, found.put_bytes) == (12.5, 3.0, 1.5e6)
    assert (found.puts, found.in_use) == (100.0, 4096.0)
    assert samples(API, "process_cpu_seconds_total") == [({}, 12.5)]


def test_a_metric_that_is_not_there_is_no_zero() -> None:
    with pytest.raises(ValueError, match="no metric etcd_gone"):
        total(ETCD, "etcd_gone")


def reading() -> dict[str, object]:
    """Ten clusters in half a minute: 60 PUT idle, and each fails over with 3 PUT and 2 PATCH."""
    before = Agents(Counter(PUT=100, GET=5), cpu=1.0)
    after = Agents(Counter(PUT=160, GET=5), cpu=1.6)
    struck = Agents(Counter(PUT=160 + 30 + 60, GET=5, PATCH=20))
    quiet = Server({"PUT": 10.0}, 1.0, 0.5, 1000.0, 10.0)
    server = Server({"PUT": 70.0}, 4.0, 2.0, 31000.0, 70.0)
    return row(10, 3, 30.0, quiet, server, before, after, struck, 30.0, [0.5, 0.7, None], 5e5)


def test_figures_are_for_one_cluster_and_a_minute() -> None:
    found = reading()
    assert found["requests a minute"] == {"PUT": 12.0}
    assert found["writes a minute at the server"] == {"PUT": 12.0}, "without everybody else's"
    assert found["etcd bytes a minute"] == pytest.approx(6000.0)
    assert found["agents % of a core"] == pytest.approx(0.2)
    assert found["API server % of a core"] == pytest.approx(1.0)
    assert found["etcd bytes stored"] == 5e4


def test_renewals_are_no_part_of_a_failover() -> None:
    found = reading()
    assert found["failover requests"] == {"PUT": 3.0, "PATCH": 2.0}
    assert found["failover s"] == pytest.approx(0.6)
    assert found["not failed over"] == 1, "one that did not come back is said"


def test_the_table_has_a_column_for_each_verb() -> None:
    head, body = lines([reading()])
    assert len(body[0]) == len(head)
    assert dict(zip(head, body[0], strict=True))["PATCH/failover"] == "2.0"


def test_numbers_of_clusters() -> None:
    assert numbers("1,10,100") == [1, 10, 100]
    with pytest.raises(argparse.ArgumentTypeError, match="1 or more"):
        numbers("1,0")


SETTINGS = Settings.parse(
    {"name": "ha", "namespace": "demo", "appName": "postgres", "version": "17"}
)


class Two:
    """A primary with a standby that follows it."""

    def __init__(self, folder: Path) -> None:
        ground = Ground()
        self.first, self.second = (
            Place(ground, SETTINGS.member(n), SETTINGS.host(SETTINGS.member(n))) for n in (0, 1)
        )
        self.directories = [
            SimulatedDirectory(p, folder / p.name) for p in (self.first, self.second)
        ]
        for d in self.directories:
            d.notes.parent.mkdir()
        self.copies = [
            SimulatedCopies(SETTINGS, p, d)
            for p, d in zip((self.first, self.second), self.directories, strict=True)
        ]
        self.servers = SimulatedServer(self.first), SimulatedServer(self.second)
        self.copies[0].initialize(None, lambda: False)
        for server in self.servers:
            server.start(ServerConf("ha", "postgres", 17))
        self.servers[0].promote()
        self.copies[1].clone("ha-0", lambda: False)
        self.follow(1, 0)

    def follow(self, standby: int, primary: int) -> None:
        host = (self.first, self.second)[primary].host
        self.servers[standby].attach(host, 5432, "", f"ha-{standby}", None)


def test_a_standby_has_what_its_primary_has(tmp_path: Path) -> None:
    two = Two(tmp_path)
    look = SimulatedSql(two.first).look(1.0)
    assert [s.name for s in look.senders] == ["ha-1"] and look.flush == LSN(two.first.end)
    received = two.servers[1].receiver()
    assert received is not None and received.lsn == LSN(two.first.end)
    assert two.second.id != two.first.id, "a copy is another directory"


def test_a_promotion_ends_a_timeline_and_takes_a_free_number(tmp_path: Path) -> None:
    two = Two(tmp_path)
    two.first.crash()
    assert two.servers[1].receiver() is None, "nobody sends"
    two.directories[1].stub_history(3, two.second.history, 2, LSN(two.second.end))
    at = LSN(two.second.end)
    two.servers[1].promote()
    assert two.second.timeline == 4 and two.second.history[-1] == Switch(2, at)
    assert two.servers[1].poll() is ServerState.PRIMARY


def test_what_a_lost_primary_wrote_alone_is_not_followed(tmp_path: Path) -> None:
    two = Two(tmp_path)
    two.servers[1].detach(1.0)
    two.first.end += GROWTH  # not received by anybody
    two.first.crash()
    two.servers[1].promote()
    two.servers[0].start(ServerConf("ha", "postgres", 17))
    two.follow(0, 1)
    assert two.servers[0].receiver() is None, "the histories differ"
    two.copies[0].rewind("ha-1", lambda: False)
    assert two.servers[0].receiver() is not None


def test_a_dirty_directory_is_told(tmp_path: Path) -> None:
    two = Two(tmp_path)
    assert two.directories[0].state() is DirectoryState.READY
    two.directories[0].mark_dirty("for the test")
    assert two.directories[0].state() is DirectoryState.DIRTY
