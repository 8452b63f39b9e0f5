"""One API server for the session, one fault proxy for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.kube.apiserver import ApiServer
from tests.integration.kube.faultproxy import FaultProxy


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    started = ApiServer().start()
    yield started
    started.stop()


@pytest.fixture
def kube(server: ApiServer) -> ApiServer:
    server.empty()
    return server


@pytest.fixture
def proxy(kube: ApiServer) -> Iterator[FaultProxy]:
    made = FaultProxy(kube.url, kube.ca)
    yield made
    made.stop()
