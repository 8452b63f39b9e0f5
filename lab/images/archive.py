"""Owns the docker archive format: layer tars in, one file that `ctr images import` takes out.

Knows nothing about what is inside the layers.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# One moment for every image, so that the same content gives the same digest.
CREATED = "2026-01-01T00:00:00Z"
MODIFIED = 1767225600


@dataclass(frozen=True)
class Settings:
    """What a container of the image starts with."""

    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The `config` object of the image specification."""
        settings: dict[str, object] = {
            "Env": [f"{name}={value}" for name, value in self.environment.items()]
        }
        if self.user:
            settings["User"] = self.user
        if self.entrypoint:
            settings["Entrypoint"] = list(self.entrypoint)
        if self.command:
            settings["Cmd"] = list(self.command)
        if self.labels:
            settings["Labels"] = dict(self.labels)
        return settings


def digest_of(file: Path) -> str:
    """The sha256 of a file, in hex."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_archive(
    target: Path, layers: Sequence[Path], tags: Sequence[str], settings: Settings
) -> None:
    """Write the archive of an image made of the layer tars, lowest first; replaces the target."""
    digests = [digest_of(layer) for layer in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": settings.as_json(),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
            "history": [{"created": CREATED} for _ in digests],
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    names = [f"{digest}/layer.tar" for digest in digests]
    manifest = json.dumps([{"Config": config_name, "RepoTags": list(tags), "Layers": names}])
    unfinished = target.with_name(target.name + ".unfinished")
    with tarfile.open(unfinished, "w") as archive:
        _add_bytes(archive, config_name, config)
        for name, layer in zip(names, layers, strict=True):
            archive.add(layer, name)
        _add_bytes(archive, "manifest.json", manifest.encode())
    unfinished.replace(target)


def write_layer(target: Path, entries: Iterable[tuple[Path, str]]) -> None:
    """Write a layer tar of files and folders as (path here, name in the image), root-owned."""
    with tarfile.open(target, "w") as layer:
        for source, name in entries:
            _add_tree(layer, source, name)


def _add_tree(layer: tarfile.TarFile, source: Path, name: str) -> None:
    layer.add(source, name, recursive=False, filter=_plain)
    if source.is_dir() and not source.is_symlink():
        for child in sorted(source.iterdir()):
            _add_tree(layer, child, f"{name}/{child.name}")


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = MODIFIED
    return entry


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mtime = MODIFIED
    archive.addfile(entry, io.BytesIO(content))
