"""The operator's folder inside a PostgreSQL image of an older distribution (glibc 2.31)."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import images
from lab.images import operator
from lab.paths import Cache, cache_from_environment
from tests.integration.image_root import ImageRoot, archive_of, unpack

pytestmark = pytest.mark.integration

IMPORTS = """
import json, sys
import psycopg, prometheus_client, ssl, urllib3
import pgha.cli
ssl.create_default_context()
own = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({"prefix": sys.prefix, "executable": sys.executable, "path": sys.path,
                  "implementation": psycopg.pq.__impl__, "libraries": sorted(own)}))
"""

CHILDREN = """
import json, os, subprocess, sys
shell = "cat /proc/self/maps >&2; exec postgres --version"
server = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
python = subprocess.run([sys.executable, "-I", "-S", "-c", "import sys; print(sys.prefix)"],
                        capture_output=True, text=True, check=True)
print(json.dumps({"server": server.stdout, "maps": server.stderr, "python": python.stdout.strip(),
                  "environment": dict(os.environ)}))
"""

CONNECT = """
import subprocess, psycopg
for command in (
    ["initdb", "-D", "/tmp/db", "-U", "postgres", "-A", "scram-sha-256",
     "--pwfile=/tmp/password", "--no-sync"],
    ["pg_ctl", "-D", "/tmp/db", "-l", "/tmp/log", "-w", "start", "-o",
     "-k /tmp -p 5409 -c listen_addresses="],
):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
with psycopg.connect("host=/tmp port=5409 user=postgres password=secret") as connection:
    print(connection.execute("show server_version").fetchone()[0])
subprocess.run(["pg_ctl", "-D", "/tmp/db", "-m", "immediate", "stop"], check=True,
               stdout=subprocess.DEVNULL)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRoot]:
    """PostgreSQL 13.13 on Debian 11 with the operator's /pgha laid into it."""
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)
    postgres = unpack(archive_of("postgres-13"), folder / "postgres")
    bundle = unpack(archive_of("operator"), folder / "operator")
    shutil.move(bundle.folder / "pgha", postgres.folder / "pgha")
    yield postgres


@pytest.fixture(scope="module")
def init_image(tmp_path_factory: pytest.TempPathFactory) -> ImageRoot:
    """The operator image as it runs as init container."""
    folder = tmp_path_factory.mktemp("init")
    folder.chmod(0o755)
    return unpack(archive_of("operator"), folder)


def python(image: ImageRoot, program: str, folder: str = "/pgha", **options: Any) -> str:
    return image.output(f"{folder}/bin/python3.11", "-I", "-S", "-c", program, **options)


def test_everything_is_imported_from_the_folder(image: ImageRoot) -> None:
    found = json.loads(python(image, IMPORTS))
    assert found["prefix"] == "/pgha"
    assert found["executable"] == "/pgha/bin/python3.11"
    assert found["implementation"] == "binary"
    assert [entry for entry in found["path"] if not entry.startswith("/pgha/lib/")] == []
    assert [name for name in found["libraries"] if not name.startswith("/pgha/lib/")] == []
    assert "/pgha/lib/libc.so.6" in found["libraries"]


def test_children_run_with_the_images_own_libraries(image: ImageRoot) -> None:
    found = json.loads(python(image, CHILDREN))
    assert found["server"].startswith(f"postgres (PostgreSQL) {images.versions()['13']}")
    assert "/pgha/" not in found["maps"]
    assert "libc-2.31.so" in found["maps"]
    assert found["python"] == "/pgha"
    assert [name for name in found["environment"] if name.startswith(("LD_", "PYTHON"))] == []


def test_psycopg_speaks_to_the_images_server(image: ImageRoot) -> None:
    (image.folder / "tmp/password").write_text("secret\n")
    assert python(image, CONNECT).strip() == images.versions()["13"]


def test_every_library_of_the_folder_finds_what_it_needs_in_it(image: ImageRoot) -> None:
    listing = image.output(
        "sh",
        "-c",
        "for f in $(find /pgha/lib/python3.11 -name '*.so*'); do "
        "/pgha/lib/ld-linux-x86-64.so.2 --library-path /pgha/lib --list $f; done",
    )
    lines = [line for line in listing.splitlines() if "=>" in line]
    assert len(lines) > 100
    foreign = {
        line.split()[2]
        for line in lines
        if not line.split()[2].startswith("/pgha/") and "linux-vdso" not in line
    }
    # The path of the loader is written into every library; it is loaded already under that name.
    assert foreign <= {"/lib64/ld-linux-x86-64.so.2", "/pgha/lib/ld-linux-x86-64.so.2"}


def test_the_init_container_installs_a_folder_that_runs_elsewhere(
    init_image: ImageRoot, image: ImageRoot
) -> None:
    volume = init_image.folder / "operator"
    volume.chmod(0o777)
    for _ in range(2):
        init_image.output("/pgha/bin/pgha", "install", "/operator")
    source = init_image.folder / "pgha"
    names = {file.relative_to(source) for file in source.rglob("*")}
    assert names == {file.relative_to(volume) for file in volume.rglob("*")}
    shutil.copytree(volume, image.folder / "srv/elsewhere", symlinks=True)
    found = json.loads(python(image, IMPORTS, "/srv/elsewhere"))
    assert found["prefix"] == "/srv/elsewhere"
    assert [name for name in found["libraries"] if not name.startswith("/srv/elsewhere/")] == []


def test_the_command_line_starts_in_both_images(init_image: ImageRoot, image: ImageRoot) -> None:
    for root in (init_image, image):
        assert "usage: pgha" in root.output("/pgha/bin/pgha", "--help")


def test_a_change_of_the_package_makes_only_the_upper_layer_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archive_of("operator")
    layers = Cache(cache_from_environment()).images / ".layers"
    shutil.copytree(layers, tmp_path / "images" / ".layers")
    package = tmp_path / "pgha"
    shutil.copytree(operator.PACKAGE, package)
    (package / "added.py").write_text("ADDED = 1\n")
    monkeypatch.setattr(operator, "PACKAGE", package)

    def refuse(*_: object) -> None:
        raise AssertionError("the base layer is built again")

    monkeypatch.setattr(operator, "mmdebstrap", refuse)
    after = images.operator_image(tmp_path)
    old, new = manifest(before), manifest(after)
    assert old["Layers"][0] == new["Layers"][0]
    assert old["Layers"][1] != new["Layers"][1]
    root = unpack(after, tmp_path / "root")
    (tmp_path / "root").chmod(0o755)
    assert (root.folder / "pgha/lib/python3.11/pgha/added.py").is_file()
    compiled = root.folder / "pgha/lib/python3.11/pgha/__pycache__/added.cpython-311.pyc"
    assert compiled.is_file()


def manifest(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as opened:
        member = opened.extractfile("manifest.json")
        assert member is not None
        (found,) = json.load(member)
    return dict(found)
