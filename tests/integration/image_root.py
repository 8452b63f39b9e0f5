"""Unpacks images of the lab into folders and runs commands inside, as a container would."""

from __future__ import annotations

import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import images
from lab.paths import Cache, cache_from_environment

# In a mount and process namespace of its own, so nothing that is started outlives the command.
ENTER = """
set -e
mkdir -p "$0/dev" "$0/proc"
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
root=$0; user=$1; shift
exec chroot --userspec="$user" "$root" "$@"
"""


@dataclass(frozen=True)
class ImageRoot:
    """An unpacked image."""

    folder: Path
    config: dict[str, Any]

    def run(
        self,
        *command: str,
        user: str = "999:999",
        environment: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with the image's environment and nothing of this machine's."""
        own = dict(setting.split("=", 1) for setting in self.config["Env"])
        settings = [f"{name}={value}" for name, value in {**own, **(environment or {})}.items()]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return subprocess.run(
            [
                *namespaces,
                *("sh", "-c", ENTER, str(self.folder), user),
                *("env", "-i", *settings, *command),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def output(self, *command: str, **options: Any) -> str:
        """The output of a command that must succeed."""
        result = self.run(*command, **options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


def archive_of(name: str) -> Path:
    """The built archive of an image of the lab."""
    cache = cache_from_environment()
    archive = Cache(cache).images / f"{name}.tar"
    return archive if archive in images.build(cache) else Path(f"no image {name}")


def unpack(archive: Path, folder: Path) -> ImageRoot:
    """Lay the layers over each other in a new folder; more archives may be laid over it."""
    with tarfile.open(archive) as opened:

        def content(name: str) -> Any:
            member = opened.extractfile(name)
            assert member is not None
            return member

        (manifest,) = json.load(content("manifest.json"))
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=content(name)) as layer:
                layer.extractall(folder, numeric_owner=True, filter="fully_trusted")
        return ImageRoot(folder, json.load(content(manifest["Config"]))["config"])
