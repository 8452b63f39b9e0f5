"""Every PostgreSQL image: what is inside is what the tag says, and its programs work together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import images
from lab.images import postgres
from lab.images.stamps import read_stamp
from tests.integration.image_root import ImageRoot, archive_of, unpack

pytestmark = pytest.mark.integration

# Two servers diverge; the old primary is shut down, rewound to the new one and streams from it.
DIVERGE = """
set -e
cd /tmp
export PGUSER=postgres PGHOST=/tmp PGDATABASE=postgres PGCONNECT_TIMEOUT=5
initdb -D a -U postgres -A trust --no-sync -k --locale=C.UTF-8 -E UTF8 >/dev/null
echo "unix_socket_directories='/tmp'" >> a/postgresql.conf
echo "listen_addresses=''" >> a/postgresql.conf
echo "wal_keep_size=512MB" >> a/postgresql.conf
pg_ctl -D a -o '-p 5401' -l a.log -w start >/dev/null
pg_basebackup -p 5401 -D b -R -X stream -c fast
pg_ctl -D b -o '-p 5402' -l b.log -w start >/dev/null
pg_ctl -D b -w promote >/dev/null
psql -p 5402 -qc 'create table kept (a int)' -c checkpoint
pgbench -p 5401 -i -s 1 -q >/dev/null 2>&1
pg_ctl -D a -w -m fast stop >/dev/null
pg_rewind -D a --source-server='host=/tmp port=5402 user=postgres dbname=postgres' --no-sync \
    2>/dev/null
echo "primary_conninfo='host=/tmp port=5402 user=postgres'" >> a/postgresql.auto.conf
touch a/standby.signal
pg_ctl -D a -o '-p 5401' -l a2.log -w start >/dev/null
psql -p 5401 -Atc "select relname from pg_class where relname in ('kept', 'pgbench_accounts')"
psql -p 5401 -Atc 'show server_version_num' -c 'select pg_is_in_recovery()'
psql -p 5402 -Atc 'select datctype from pg_database where oid = 1' -c 'show data_checksums'
pg_controldata -D b | grep 'cluster state'
file=$(psql -p 5402 -Atc 'select pg_walfile_name(pg_current_wal_lsn())')
pg_waldump "b/pg_wal/$file" 2>/dev/null | grep -c CHECKPOINT_ONLINE >/dev/null
pg_ctl -D a -w -m fast stop >/dev/null
pg_ctl -D b -w -m fast stop >/dev/null
"""


@pytest.fixture(scope="module", params=[image.major for image in postgres.IMAGES])
def root(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ImageRoot]]:
    folder = tmp_path_factory.mktemp(f"postgres-{request.param}")
    folder.chmod(0o755)
    yield request.param, unpack(archive_of(f"postgres-{request.param}"), folder)


def test_the_tag_is_the_version_inside(root: tuple[str, ImageRoot]) -> None:
    major, image = root
    version = images.versions()[major]
    assert image.output("postgres", "--version").startswith(f"postgres (PostgreSQL) {version}")
    stamp = read_stamp(archive_of(f"postgres-{major}"))
    assert stamp is not None
    assert stamp.tags == [f"{postgres.REPOSITORY}:{version}", f"{postgres.REPOSITORY}:{major}"]
    servers = [
        file for file in Path(image.folder, "usr").rglob("bin/postgres") if not file.is_symlink()
    ]
    assert len(servers) == 1


def test_the_user_and_its_folders_are_those_of_the_official_image(
    root: tuple[str, ImageRoot],
) -> None:
    image = root[1]
    assert image.config["User"] == "999:999"
    assert image.output("sh", "-c", "id -un; id -u; id -g").split() == ["postgres", "999", "999"]
    image.output("sh", "-c", 'cd "$PGDATA" && touch probe /var/run/postgresql/probe && rm probe')


def test_nothing_of_the_archive_it_came_from_is_left(root: tuple[str, ImageRoot]) -> None:
    folder = root[1].folder
    lists = folder / "etc/apt/sources.list"
    assert not lists.exists() or lists.read_text() == ""
    assert list((folder / "var/lib/apt/lists").glob("*_Packages*")) == []


def test_servers_diverge_and_come_together_again(root: tuple[str, ImageRoot]) -> None:
    major, image = root
    printed = image.output("sh", "-c", DIVERGE, timeout=300).splitlines()
    whole, minor = images.versions()[major].split(".")
    number = f"{whole}{int(minor):04d}"
    assert printed == [
        "kept",
        number,
        "t",
        "C.UTF-8",
        "on",
        "Database cluster state:               in production",
    ]
