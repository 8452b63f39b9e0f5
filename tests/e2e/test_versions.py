"""The core of the seed on other versions, side by side: 15 warm, 18 hot, two members each.

17 is the version of the day-two tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from lab.cluster import Lab
from lab.images import versions
from tests.support.deployed import Deployed, bring_up
from tests.support.kube import Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import FETCHING, Cluster
from tests.support.program import Program
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-versions"
MODES = {"15": "Warm", "18": "Hot"}
EACH = pytest.mark.parametrize("major", list(MODES))


@pytest.fixture(scope="module")
def each(lab: Lab, kube: Kube, program: Program) -> Iterator[dict[str, Deployed]]:
    make_namespace(kube, NAMESPACE)
    pairs = []
    for major, mode in MODES.items():
        name = f"pg{major}"
        config = {
            "namespace": NAMESPACE,
            "version": versions()[major],
            "replicas": 2,
            "standbyMode": mode,
            "storageType": "Ephemeral",
            "database": "app",
            "username": "owner",
            "deletionPolicy": "WipeOut",
        }
        cluster = Cluster(lab, kube, NAMESPACE, name, database="app")
        pairs.append((program.stack(name, config), cluster))
    yield dict(zip(MODES, bring_up(pairs), strict=True))
    drop_namespace(kube, NAMESPACE)


@EACH
def test_it_is_that_version_with_the_settings_of_the_seed(
    each: dict[str, Deployed], major: str
) -> None:
    cluster = each[major].cluster
    assert cluster.show("server_version").split()[0] == versions()[major]
    shown = {n: cluster.show(n) for n in ("wal_level", "max_wal_senders", "wal_keep_size")}
    assert shown == {"wal_level": "replica", "max_wal_senders": "99", "wal_keep_size": "512MB"}


@EACH
def test_the_standby_streams_and_keeps_to_its_mode(each: dict[str, Deployed], major: str) -> None:
    cluster = each[major].cluster
    each[major].healthy()
    (standby,) = cluster.replicas()
    assert cluster.streaming() == {standby.name: "async"}
    if MODES[major] == "Hot":
        assert cluster.sql("SELECT pg_is_in_recovery()", host=standby.address) == [(True,)]
        return
    # From 14 on PostgreSQL says it so; before, "the database system is starting up".
    with pytest.raises(psycopg.OperationalError, match="not accepting connections") as refused:
        cluster.connect(standby.address)
    assert "Hot standby mode is disabled" in str(refused.value)


@EACH
def test_the_standby_takes_over_with_every_row(each: dict[str, Deployed], major: str) -> None:
    cluster = each[major].cluster
    each[major].healthy()
    cluster.sql("CREATE TABLE IF NOT EXISTS kept AS SELECT generate_series(1, 500) AS n")
    old = cluster.primary()
    cluster.kube.delete(cluster.path("pods", old.name))

    def taken_over() -> bool:
        assert cluster.primary().name != old.name
        return cluster.sql("SELECT count(*) FROM kept") == [(500,)]

    until("the other member as primary, with every row", taken_over, 60, 0.3, FETCHING)
    each[major].healthy(25)
