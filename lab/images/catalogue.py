"""Owns the list of the lab's images, which of them are stale, and the order they are built in.

Files in `images/` of the cache: NAME.tar is a finished archive, NAME.json its stamp, `.work`
holds builds under way, `.layers` what the operator image is put together from.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.images import operator, pause, postgres
from lab.images.debian import options_of
from lab.images.stamps import Stamp, digest_inputs, read_stamp, write_stamp
from lab.locking import locked
from lab.paths import Cache, cache_from_environment
from lab.requirements import install_packages
from lab.versions import IMAGE_PACKAGES, PAUSE_IMAGE


@dataclass(frozen=True)
class Recipe:
    """How one archive is made: a digest of everything that goes in, and the making."""

    name: str
    inputs: str
    make: Callable[[Path, Path], Stamp]


def recipes(layers: Path) -> list[Recipe]:
    """Every image of the lab, in the order of building: what a first cluster needs comes first."""
    first, *others = postgres.IMAGES
    return [
        _pause_recipe(),
        _postgres_recipe(first),
        _operator_recipe(layers),
        *(_postgres_recipe(image) for image in others),
    ]


def _pause_recipe() -> Recipe:
    inputs = digest_inputs([PAUSE_IMAGE], [pause.SOURCE])
    return Recipe("pause", inputs, lambda work, target: Stamp(inputs, pause.make(work, target)))


def _postgres_recipe(image: postgres.Postgres) -> Recipe:
    hooks = [postgres.graft_hook(image, Path("tree"))] if image.artifact else []
    settings = repr(postgres.settings_of(image))
    inputs = digest_inputs([repr(image), settings, *options_of(postgres.root_of(image)), *hooks])

    def make(work: Path, target: Path) -> Stamp:
        version, tags = postgres.make(image, work, target)
        return Stamp(inputs, tags, image.major, version)

    return Recipe(f"postgres-{image.major}", inputs, make)


def _operator_recipe(layers: Path) -> Recipe:
    inputs = operator.inputs()

    def make(work: Path, target: Path) -> Stamp:
        return Stamp(inputs, operator.make(layers, work, target))

    return Recipe("operator", inputs, make)


def build(cache: Path) -> list[Path]:
    """Build every archive that is missing or stale; returns all of them, finished."""
    images = Cache(cache).images
    with locked(images / ".lock"):
        return _build(images, recipes(images / ".layers"))


def operator_image(cache: Path) -> Path:
    """Build only the operator's archive, if its inputs changed."""
    images = Cache(cache).images
    with locked(images / ".lock"):
        (archive,) = _build(images, [_operator_recipe(images / ".layers")])
    return archive


def versions(cache: Path | None = None) -> dict[str, str]:
    """Major -> full version of each PostgreSQL image that is built."""
    images = Cache(cache or cache_from_environment()).images
    stamps = (read_stamp(images / f"postgres-{image.major}.tar") for image in postgres.IMAGES)
    found = {stamp.major: stamp.version for stamp in stamps if stamp}
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _build(images: Path, wanted: list[Recipe]) -> list[Path]:
    archives = [images / f"{recipe.name}.tar" for recipe in wanted]
    for recipe, archive in zip(wanted, archives, strict=True):
        stamp = read_stamp(archive)
        if stamp and stamp.inputs == recipe.inputs:
            continue
        install_packages(IMAGE_PACKAGES)
        started = time.monotonic()
        _say(f"building image {recipe.name} ...")
        with _work_folder(images / ".work") as work:
            made = recipe.make(work, archive)
        write_stamp(archive, made)
        size = archive.stat().st_size / 1e6
        _say(f"image {', '.join(made.tags)}: {size:.0f} MB in {time.monotonic() - started:.1f} s")
    return archives


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        # Under the lock nobody else builds: this is of a build that was killed.
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=parent))
    # mmdebstrap's helpers enter it as another user.
    work.chmod(0o755)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
