"""PULUMI_HOME of the lab: which Kubernetes provider the engine finds there. Owns the plugin folder.

The engine itself, its language host and that one's script are put into `bin/` by `lab.tools`.

LAB_PROVIDER chooses: unset, the official provider where one is installed already (downloaded here
before, in the user's PULUMI_HOME, or on PATH), else the stand-in of `lab.provider`; `official`,
the same but downloaded where there is none; `stand-in`; or the path of a plugin. Each choice
holds for as long as the variable says so, and nothing is downloaded unasked: the engine is told
neither to fetch plugins by itself nor to prefer one that it meets on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab import versions
from lab.paths import REPOSITORY
from lab.requirements import LabError

PROGRAM = "pulumi-resource-kubernetes"
MARK = "# the lab's stand-in provider"
DOWNLOAD_SECONDS = 300.0


def folder(home: Path) -> Path:
    """Where the engine looks for the provider that the SDK asks for."""
    return home / "plugins" / f"resource-kubernetes-v{versions.PULUMI_KUBERNETES}"


def environment(cache: Path) -> dict[str, str]:
    """What the engine must be told to use this cache alone, and nothing of the user's."""
    programs = (str(cache / "bin"), str(cache / "venv" / "bin"), os.environ.get("PATH", os.defpath))
    return {
        "PATH": os.pathsep.join(programs),
        "VIRTUAL_ENV": str(cache / "venv"),
        "PULUMI_HOME": str(cache / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{cache / 'pulumi' / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": os.environ.get("PULUMI_CONFIG_PASSPHRASE", "lab"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        # A plugin on PATH would win over PULUMI_HOME, whatever LAB_PROVIDER says.
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
    }


def install(cache: Path) -> None:
    """Put a provider in place. Idempotent; changes nothing that is right already."""
    home = cache / "pulumi"
    wanted = os.environ.get("LAB_PROVIDER", "")
    plugin = folder(home) / PROGRAM
    if wanted == "stand-in":
        _stand_in(cache, plugin)
    elif wanted not in ("", "official"):
        _use(Path(wanted).expanduser().absolute(), plugin)
    elif _is_official(plugin) and not plugin.is_symlink():
        return
    elif (found := _elsewhere(home)) is not None:
        _use(found, plugin)
    elif wanted == "official":
        _download(cache, home)
    else:
        _stand_in(cache, plugin)


def is_stand_in(cache: Path) -> bool:
    plugin = folder(cache / "pulumi") / PROGRAM
    return plugin.exists() and not _is_official(plugin)


def _is_official(plugin: Path) -> bool:
    """Is a program there, and not ours? (It has 100 MB, so only its beginning is read.)"""
    try:
        with plugin.open("rb") as file:
            return MARK.encode() not in file.read(4096)
    except OSError:
        return False


def _elsewhere(home: Path) -> Path | None:
    """One that the user has installed already: for an engine of their own, or on PATH."""
    for mine in (os.environ.get("PULUMI_HOME"), "~/.pulumi"):
        found = folder(Path(mine).expanduser()) / PROGRAM if mine else None
        if found is not None and found.parent != folder(home) and _is_official(found):
            return found
    named = shutil.which(PROGRAM)
    return Path(named) if named and _is_official(Path(named)) else None


def _use(given: Path, plugin: Path) -> None:
    if given.is_dir():
        given = given / PROGRAM
    if not given.is_file() or not os.access(given, os.X_OK):
        raise LabError(
            f"LAB_PROVIDER names {given}, which is no program: give the path of a "
            f"{PROGRAM}, or `official`, or `stand-in`"
        )
    if plugin.is_symlink() and plugin.resolve() == given.resolve():
        return
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.unlink(missing_ok=True)
    plugin.symlink_to(given.resolve())


def _stand_in(cache: Path, plugin: Path) -> None:
    """A script that runs this checkout's `lab.provider` in the cache's virtual environment."""
    text = (
        "#!/bin/sh\n"
        f"{MARK}\n"
        f'PYTHONPATH="{REPOSITORY}" exec "{cache}/venv/bin/python" -m lab.provider "$@"\n'
    )
    if plugin.exists() and not plugin.is_symlink() and plugin.read_text() == text:
        return
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.unlink(missing_ok=True)
    plugin.write_text(text)
    plugin.chmod(0o755)


def _download(cache: Path, home: Path) -> None:
    plugin = folder(home) / PROGRAM
    shutil.rmtree(plugin.parent, ignore_errors=True)
    done = subprocess.run(
        [str(cache / "bin" / "pulumi"), "plugin", "install", "resource", "kubernetes",
         versions.PULUMI_KUBERNETES],
        env={**os.environ, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS,
    )
    if done.returncode != 0:
        raise LabError(
            "LAB_PROVIDER=official: the official provider cannot be downloaded here "
            f"({done.stderr.strip()[-200:]}): give its path, or leave LAB_PROVIDER unset"
        )
