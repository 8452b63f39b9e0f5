"""Every test that asks for `image` runs inside that PostgreSQL version's image, as user 999.

The data directory that most tests begin with is made once for each version, by the product.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.postgres import nodes
from tests.integration.postgres.inside import USER, FailedInside, Place, run_inside
from tests.integration.postgres.pki import make_pki
from tests.integration.postgres.roots import MAJORS, image_root

WITHIN = 120.0  # seconds for one test


@pytest.fixture(scope="session")
def place_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Place]:
    """The place for tests of a major version, with a data directory to copy in /template."""
    folder = tmp_path_factory.mktemp("postgres")
    for path in (folder, *folder.parents):
        if path.owner() == "root" and path.is_relative_to(tmp_path_factory.getbasetemp().parent):
            path.chmod(path.stat().st_mode | 0o055)
    pki = folder / "pki"
    pki.mkdir()
    make_pki(pki)
    here = {
        str(p): p
        for p in (
            Path(sysconfig.get_paths()["stdlib"]), Path(sys.prefix), Path(__file__).parents[3]
        )
    }  # fmt: skip
    made: dict[str, Place] = {}

    def place(major: str) -> Place:
        if major not in made:
            root, environment = image_root(major)
            template = folder / major
            template.mkdir()
            os.chown(template, USER, USER)
            shown = {**here, "/pki": pki, "/template": template}
            one = Place(root, {**environment, "HOME": "/tmp", "LANG": "C.UTF-8"}, shown)
            run_inside(one, nodes.make_template, WITHIN)
            made[major] = one
        return made[major]

    return place


@pytest.fixture(params=MAJORS)
def image(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    """Each version in turn. For what no version does differently: `@one_version`."""
    return place_of(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test's function inside, where it asks for an image."""
    place = pyfuncitem.funcargs.get("image")
    if not isinstance(place, Place):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    try:
        run_inside(place, lambda: pyfuncitem.obj(**arguments), WITHIN)
    except FailedInside as e:
        pytest.fail(str(e), pytrace=False)
    return True
