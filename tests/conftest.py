"""Fixtures of all layers that need the lab. Owns the session's one lab, namespace and program.

Nothing here runs for a layer that does not ask for it, and imports are made when needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from lab.cluster import Lab
    from tests.support.kube import Kube
    from tests.support.program import Program

# A busy machine is no defect of the code, and a time no assertion.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab, up and free of faults; this process is inside its network from here on.

    Who puts a fault into it takes it away: another layer may be using the lab at the same time.
    """
    from lab.cluster import Lab
    from tests.support.entering import enter_network

    made = Lab()
    made.up()
    enter_network(made.layout.name)
    return made


@pytest.fixture(scope="session")
def kube(lab: Lab) -> Kube:
    from tests.support.kube import Kube

    return Kube(lab.kubeconfig)


@pytest.fixture(scope="session")
def program(lab: Lab, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The Pulumi program in a folder of its own, with a backend that ends with the lab.

    What an earlier run left behind is removed first.
    """
    from tests.support.namespaces import drop_all
    from tests.support.program import Program

    drop_all(kube)
    backend: Path = lab.layout.run / "test-stacks"
    shutil.rmtree(backend, ignore_errors=True)
    yield Program(lab, tmp_path_factory.mktemp("program") / "pgha", backend)
    drop_all(kube)
    shutil.rmtree(backend, ignore_errors=True)
