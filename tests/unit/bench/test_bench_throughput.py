"""Reading pgbench, and which settings a bare server gets."""

from __future__ import annotations

import pytest

from bench.throughput import NOT_COPIED, Round, compared, pgbench_round

pytestmark = pytest.mark.unit

PRINTED = """\
number of transactions actually processed: 9000
latency average = 3.999 ms
initial connection time = 5.111 ms
tps = 1000.250000 (without initial connection time)
"""


def test_pgbench_is_read() -> None:
    assert pgbench_round(PRINTED) == Round(1000.25, 3.999)


def test_pgbench_without_figures_is_an_error() -> None:
    with pytest.raises(ValueError, match="no figures"):
        pgbench_round("pgbench: fatal")


def test_the_cost_is_of_the_medians() -> None:
    found = compared([Round(99, 1), Round(90, 1), Round(100, 1)], [Round(100, 1)] * 3)
    assert found["slower with the agent %"] == pytest.approx(1.0)
    assert found["bare tps spread %"] == 0


@pytest.mark.parametrize(
    "name", ["hba_file", "primary_conninfo", "ssl", "log_line_prefix", "cluster_name"]
)
def test_paths_roles_and_logs_are_not_copied(name: str) -> None:
    assert NOT_COPIED.search(name)


@pytest.mark.parametrize("name", ["wal_level", "max_connections", "wal_keep_size", "fsync"])
def test_what_makes_a_server_fast_or_slow_is(name: str) -> None:
    assert not NOT_COPIED.search(name)
