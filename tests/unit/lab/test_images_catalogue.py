"""What is built again and what is not, and what goes into an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab import images
from lab.images import catalogue, debian, operator, postgres
from lab.images.catalogue import Recipe
from lab.images.stamps import Stamp, digest_inputs, read_stamp, stamp_file, write_stamp
from lab.requirements import LabError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "install_packages", lambda names: None)


def recipe(name: str, inputs: str, log: list[str]) -> Recipe:
    def make(work: Path, target: Path) -> Stamp:
        assert work.is_dir()
        log.append(name)
        target.write_text(inputs)
        return Stamp(inputs, [f"{name}:1"])

    return Recipe(name, inputs, make)


def test_only_what_is_stale_is_built(tmp_path: Path) -> None:
    log: list[str] = []
    first = catalogue._build(tmp_path, [recipe("a", "1", log), recipe("b", "1", log)])
    again = catalogue._build(tmp_path, [recipe("a", "1", log), recipe("b", "2", log)])
    assert first == again == [tmp_path / "a.tar", tmp_path / "b.tar"]
    assert log == ["a", "b", "b"]


def test_an_archive_that_vanished_is_built_again(tmp_path: Path) -> None:
    log: list[str] = []
    for _ in range(2):
        (archive,) = catalogue._build(tmp_path, [recipe("a", "1", log)])
        archive.unlink()
    assert log == ["a", "a"]


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".work" / "killed"
    left.mkdir(parents=True)
    catalogue._build(tmp_path, [recipe("a", "1", [])])
    assert not left.exists()
    assert list((tmp_path / ".work").iterdir()) == []


def test_a_failed_build_is_no_image(tmp_path: Path) -> None:
    def fail(work: Path, target: Path) -> Stamp:
        target.write_text("half")
        raise LabError("the archive is out of reach")

    with pytest.raises(LabError):
        catalogue._build(tmp_path, [Recipe("a", "1", fail)])
    assert read_stamp(tmp_path / "a.tar") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"unknown": 1}'])
def test_an_unreadable_stamp_counts_as_none(tmp_path: Path, text: str) -> None:
    archive = tmp_path / "a.tar"
    archive.touch()
    stamp_file(archive).write_text(text)
    assert read_stamp(archive) is None


def test_versions_tells_the_built_images_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for major, version in (("18", "18.1"), ("13", "13.13")):
        archive = folder / f"postgres-{major}.tar"
        archive.touch()
        write_stamp(archive, Stamp("x", [], major, version))
    assert list(images.versions(tmp_path).items()) == [("13", "13.13"), ("18", "18.1")]


def file_with(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: digest_inputs(["a", "b"], [file_with(folder, "x", "2")]),
        lambda folder: digest_inputs(["a", "b"], [file_with(folder, "y", "1")]),
        lambda folder: digest_inputs(["ab"], [file_with(folder, "x", "1")]),
        lambda folder: digest_inputs(["a", "b"]),
    ],
)
def test_every_input_changes_the_digest(tmp_path: Path, change: Callable[[Path], str]) -> None:
    unchanged = digest_inputs(["a", "b"], [file_with(tmp_path / "one", "x", "1")])
    assert unchanged == digest_inputs(["a", "b"], [file_with(tmp_path / "two", "x", "1")])
    assert change(tmp_path / "three") != unchanged


def test_the_operator_is_stale_after_a_change_of_its_package_only_in_its_own_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pgha"
    monkeypatch.setattr(operator, "PACKAGE", package)
    file_with(package, "__main__.py", "1")
    before, base = operator.inputs(), operator.base_inputs()
    file_with(package / "__pycache__", "x.pyc", "compiled")
    assert operator.inputs() == before
    file_with(package, "__main__.py", "2")
    assert operator.inputs() != before
    assert operator.base_inputs() == base


def test_what_a_first_cluster_needs_is_built_first(tmp_path: Path) -> None:
    names = [recipe.name for recipe in catalogue.recipes(tmp_path)]
    assert names[:3] == ["pause", "postgres-15", "operator"]
    assert sorted(names[3:]) == ["postgres-13", "postgres-17", "postgres-18"]


def test_the_programs_of_the_server_come_first_on_the_path() -> None:
    paths = {
        image.major: postgres.settings_of(image).environment["PATH"].split(":")[0]
        for image in postgres.IMAGES
    }
    assert paths == {
        "13": "/usr/lib/postgresql/13.13/bin",
        "15": "/usr/lib/postgresql/15/bin",
        "17": "/usr/lib/postgresql/17/bin",
        "18": "/usr/lib/postgresql/18/bin",
    }


def test_the_version_is_what_the_server_says() -> None:
    assert postgres.parse_version("postgres (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)\n") == "15.9"
    assert postgres.parse_version("postgres (PostgreSQL) 18beta1\n") == "18beta1"
    with pytest.raises(LabError, match="printed 'sh: not found' and not a version"):
        postgres.parse_version("sh: not found\n")


def test_an_artifact_with_another_version_is_never_tagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next(image for image in postgres.IMAGES if image.artifact)

    def report(root: debian.Root, target: Path) -> None:
        (tmp_path / "version").write_text("postgres (PostgreSQL) 13.14\n")

    monkeypatch.setattr(postgres, "unpack_artifact", lambda image, work: work)
    monkeypatch.setattr(postgres, "mmdebstrap", report)
    with pytest.raises(LabError, match=r"holds PostgreSQL 13.14 and 13.13 is expected"):
        postgres.make(image, tmp_path, tmp_path / "image.tar")
    assert not (tmp_path / "image.tar").exists()


def test_the_archive_is_the_one_of_this_machine() -> None:
    printed = "Debian|http://a/debian\nDebian|http://b/debian\nDebian-Security|http://a/security\n"
    archives = debian.archive_addresses(printed)
    assert archives == {"Debian": "http://a/debian", "Debian-Security": "http://a/security"}
    root = debian.Root("trixie", ("x",))
    assert debian.source_lines(root, archives) == [
        "deb http://a/debian trixie main",
        "deb http://a/security trixie-security main",
    ]
    without = debian.Root("forky", ("x",), security=False)
    assert debian.source_lines(without, archives) == ["deb http://a/debian forky main"]


def test_a_machine_without_a_debian_archive_is_told_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = file_with(tmp_path / "bin", "apt-get", "#!/bin/sh\necho 'Ubuntu|http://a/ubuntu'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    monkeypatch.delenv("PGHA_DEBIAN_MIRROR", raising=False)
    with pytest.raises(LabError, match="set PGHA_DEBIAN_MIRROR"):
        debian.machine_archives()
    monkeypatch.setenv("PGHA_DEBIAN_MIRROR", "http://mirror/debian")
    assert debian.machine_archives() == {"Debian": "http://mirror/debian"}
