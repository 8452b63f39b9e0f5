"""The docker archive format, without building any image."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.images.archive import Settings, write_archive, write_layer

pytestmark = pytest.mark.unit


def layer_with(folder: Path, name: str, text: str) -> Path:
    content = folder / f"{name}.txt"
    content.write_text(text)
    content.chmod(0o640)
    if os.geteuid() == 0:
        # Another user's file even when the tests run as root.
        os.chown(content, 1234, 1234)
    layer = folder / f"{name}.layer"
    write_layer(layer, [(content, f"etc/{name}")])
    return layer


def read_json(archive: Path, name: str) -> Any:
    with tarfile.open(archive) as opened:
        member = opened.extractfile(name)
        assert member is not None
        return json.load(member)


def test_an_archive_lists_its_layers_lowest_first_with_their_digests(tmp_path: Path) -> None:
    layers = [layer_with(tmp_path, "low", "1"), layer_with(tmp_path, "high", "2")]
    archive = tmp_path / "image.tar"
    write_archive(archive, layers, ["docker.io/a/b:1", "docker.io/a/b:2"], Settings())
    (manifest,) = read_json(archive, "manifest.json")
    digests = [hashlib.sha256(layer.read_bytes()).hexdigest() for layer in layers]
    assert manifest["RepoTags"] == ["docker.io/a/b:1", "docker.io/a/b:2"]
    assert manifest["Layers"] == [f"{digest}/layer.tar" for digest in digests]
    config = read_json(archive, manifest["Config"])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in digests]
    with tarfile.open(archive) as opened:
        for name, layer in zip(manifest["Layers"], layers, strict=True):
            member = opened.extractfile(name)
            assert member is not None and member.read() == layer.read_bytes()


def test_the_config_file_is_named_by_its_digest(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    write_archive(archive, [layer_with(tmp_path, "a", "1")], ["a:1"], Settings(user="999:999"))
    (manifest,) = read_json(archive, "manifest.json")
    with tarfile.open(archive) as opened:
        member = opened.extractfile(manifest["Config"])
        assert member is not None
        assert manifest["Config"] == hashlib.sha256(member.read()).hexdigest() + ".json"


def test_the_same_content_gives_the_same_archive_whoever_owns_it(tmp_path: Path) -> None:
    archives = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        archive = folder / "image.tar"
        layer = layer_with(folder, "a", "same")
        with tarfile.open(layer) as opened:
            (member,) = opened.getmembers()
        assert (member.uid, member.gid, member.uname, member.mode) == (0, 0, "", 0o640)
        write_archive(archive, [layer], ["a:1"], Settings())
        archives.append(read_json(archive, "manifest.json"))
    assert archives[0] == archives[1]


def test_settings_say_only_what_is_set() -> None:
    assert Settings().as_json() == {"Env": []}
    assert Settings(
        environment={"PATH": "/bin", "LANG": "C.UTF-8"},
        user="999:999",
        entrypoint=("/a",),
        command=("b",),
        labels={"c": "d"},
    ).as_json() == {
        "Env": ["PATH=/bin", "LANG=C.UTF-8"],
        "User": "999:999",
        "Entrypoint": ["/a"],
        "Cmd": ["b"],
        "Labels": {"c": "d"},
    }


def test_a_failed_write_leaves_the_old_archive(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_archive(archive, [tmp_path / "missing"], ["a:1"], Settings())
    assert archive.read_text() == "old"
