"""Makes the self-contained folder /pgha that runs inside any PostgreSQL image.

Two steps, each a layer of the operator image:
  bundle.py base TARGET --wheels DIR     the interpreter that runs this, its libraries, the wheels
  bundle.py sources TARGET --package DIR the pgha package alone (under a second)
Owns the layout of that folder; imports the standard library only, since it runs in a bare Debian
root and in a Dockerfile as well as in a checkout. `pgha/install.py` relies on the layout.

  bin/pgha, bin/python3.11   scripts that start the interpreter with the folder's own loader
  lib/*.so*                  the loader, the C library and all that the interpreter needs
  lib/python3.11/            the interpreter, the standard library, the wheels and pgha, compiled
  BASE, SOURCES              digests of what the two steps put there

The image's own libraries are never touched: the loader gets its search path as an argument and
the environment stays as it was, so a child such as `postgres` runs with what its image has.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

VERSION = (3, 11)
PYTHON = "python3.11"
LOADER = "ld-linux-x86-64.so.2"

# Opened by name at run time (dlopen), so no list of dependencies mentions them.
OPENED_BY_NAME = (
    "libdl.so.2",
    "libgcc_s.so.1",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
)
# Parts of the standard library that no server needs.
UNUSED = (
    "__phello__", "antigravity.py", "config-*", "curses", "dbm", "dist-packages", "distutils",
    "EXTERNALLY-MANAGED", "ensurepip", "idlelib", "lib2to3", "lib-tk", "LICENSE.txt", "msilib",
    "pydoc_data", "site-packages", "sitecustomize.py", "sqlite3", "test", "this.py", "tkinter",
    "turtle.py", "turtledemo", "venv",
)  # fmt: skip
UNUSED_MODULES = (
    "_crypt", "_ctypes_test", "_curses", "_curses_panel", "_dbm", "_gdbm", "_sqlite3", "_test*",
    "_tkinter", "_xx*", "audioop", "nis", "ossaudiodev", "readline", "spwd", "xxlimited*",
)  # fmt: skip

SCRIPT = """#!/bin/sh
# Starts {what} with the folder's own loader and libraries, from wherever the folder lies.
here=${{0%/*}}
exec "$here/../lib/{loader}" --library-path "$here/../lib" --argv0 "$here/{python}" \\
    "$here/../lib/{python}/{python}" {arguments}"$@"
"""


class BundleError(Exception):
    """One sentence that says what stops the bundle, with the remedy."""


def check_interpreter() -> None:
    """Compiled files are only good for one version of Python."""
    if sys.version_info[:2] != VERSION:
        raise BundleError(
            f"The bundle holds {PYTHON} and this is Python {sys.version.split()[0]}: run bundle.py "
            f"with {PYTHON}."
        )


def make_base(target: Path, wheels: Path) -> None:
    """The interpreter, the standard library, the wheels and every library they need."""
    library = target / "lib" / PYTHON
    library.mkdir(parents=True)
    copy_standard_library(Path(sysconfig.get_path("stdlib")), library)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(library)
    drop_wheel_extras(library)
    program = library / PYTHON
    shutil.copy(Path(sys.executable).resolve(), program)
    program.chmod(0o755)
    compile_tree(library, keep_sources=False)
    copy_shared_libraries(target / "lib", [program, *library.rglob("*.so*")])
    write_scripts(target / "bin")
    (target / "BASE").write_text(tree_digest(target, without=("BASE", "SOURCES")) + "\n")


def make_sources(target: Path, package: Path) -> None:
    """The pgha package, compiled beside its sources so that tracebacks show lines."""
    place = target / "lib" / PYTHON / "pgha"
    if not (package / "__main__.py").is_file():
        raise BundleError(
            f"{package} holds no __main__.py, so it is not the pgha package: name the folder "
            "operator/pgha."
        )
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(package, place, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
    compile_tree(place, keep_sources=True)
    (target / "SOURCES").write_text(tree_digest(place) + "\n")


def copy_standard_library(source: Path, place: Path) -> None:
    """All of it but for UNUSED and UNUSED_MODULES."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.a", "*.exe", "py.typed")

    def skip(folder: str, names: list[str]) -> set[str]:
        skipped = ignored(folder, names)
        if Path(folder) == source:
            skipped |= shutil.ignore_patterns(*UNUSED)(folder, names)
        if Path(folder).name == "lib-dynload":
            patterns = [f"{module}.*so" for module in UNUSED_MODULES]
            skipped |= shutil.ignore_patterns(*patterns)(folder, names)
        if Path(folder).name != "test":
            skipped |= {"test", "tests"} & set(names)
        return skipped

    shutil.copytree(source, place, ignore=skip, dirs_exist_ok=True)


def drop_wheel_extras(library: Path) -> None:
    """Stubs and C sources; the wheels' metadata stay for their licences and versions."""
    for pattern in ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "py.typed"):
        for file in library.rglob(pattern):
            file.unlink()


def compile_tree(folder: Path, keep_sources: bool) -> None:
    """Compile every module; the files are never checked again, for the folder is read-only."""
    done = compileall.compile_dir(
        folder,
        quiet=1,
        force=True,
        legacy=not keep_sources,
        stripdir=folder,
        prependdir="pgha" if keep_sources else PYTHON,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not done:
        raise BundleError(f"Not every module in {folder} compiles: mend the one named above.")
    if not keep_sources:
        for source in folder.rglob("*.py"):
            source.unlink()


def dependencies(file: Path) -> dict[str, Path]:
    """Name -> place of every library that the loader would take for a program or library."""
    result = subprocess.run(
        [f"/lib64/{LOADER}", "--list", str(file)], capture_output=True, text=True
    )
    missing = re.findall(r"(\S+) => not found", result.stdout)
    if missing:
        raise BundleError(f"{file} needs {', '.join(missing)}: install what holds it.")
    return {
        name: Path(place) for name, place in re.findall(r"(\S+) => (/\S+) \(", result.stdout)
    }


def copy_shared_libraries(place: Path, files: Iterable[Path]) -> None:
    """Whatever the files need, but for libraries that came in a wheel and stay beside it."""
    found: dict[str, Path] = {}
    for file in files:
        found.update(dependencies(file))
    for name, source in system_libraries(OPENED_BY_NAME):
        found.setdefault(name, source)
    for name, source in sorted(found.items()):
        if place not in source.resolve().parents and place not in source.parents:
            shutil.copy(source, place / name)
    shutil.copy(Path(f"/lib64/{LOADER}").resolve(), place / LOADER)
    (place / LOADER).chmod(0o755)


def system_libraries(names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Where the system keeps libraries of these names."""
    folders = [Path("/lib/x86_64-linux-gnu"), Path("/usr/lib/x86_64-linux-gnu"), Path("/lib64")]
    for name in names:
        places = [folder / name for folder in folders if (folder / name).exists()]
        if not places:
            raise BundleError(
                f"{name} is in none of {', '.join(map(str, folders))}: build the bundle on Debian "
                "bookworm (operator/Dockerfile does)."
            )
        yield name, places[0]


def write_scripts(place: Path) -> None:
    """The two programs of the folder."""
    place.mkdir()
    # No `site`: everything is in the standard library's folder, so there is nothing to scan.
    for name, what, arguments in (
        ("pgha", "pgha", "-I -S -m pgha "),
        (PYTHON, "Python, for sys.executable,", ""),
    ):
        script = place / name
        script.write_text(
            SCRIPT.format(what=what, loader=LOADER, python=PYTHON, arguments=arguments)
        )
        script.chmod(0o755)


def tree_digest(folder: Path, without: tuple[str, ...] = ()) -> str:
    """A digest of names, modes and contents."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.is_file() and name not in without:
            content = file.read_bytes()
            executable = os.access(file, os.X_OK)
            digest.update(f"{name}\0{executable}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    steps = parser.add_subparsers(dest="step", required=True)
    base = steps.add_parser("base", help="interpreter, libraries, wheels")
    base.add_argument("target", type=Path)
    base.add_argument("--wheels", type=Path, required=True)
    sources = steps.add_parser("sources", help="the pgha package alone")
    sources.add_argument("target", type=Path)
    sources.add_argument("--package", type=Path, required=True)
    parsed = parser.parse_args(arguments)
    try:
        check_interpreter()
        if parsed.step == "base":
            make_base(parsed.target.absolute(), parsed.wheels)
        else:
            make_sources(parsed.target.absolute(), parsed.package)
    except BundleError as error:
        sys.exit(f"bundle: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
