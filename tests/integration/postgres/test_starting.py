"""Starting and promoting: always as a standby, whatever the directory says."""

from __future__ import annotations

import pytest

from pgha.postgres.directory import DirectoryState
from pgha.postgres.server import ServerState
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import Node

pytestmark = pytest.mark.integration


def test_promote(image: Place) -> None:
    node = Node("ha-0").leading()
    assert node.directory.state() is DirectoryState.READY
    assert node.ask("SELECT 1") == 1
    node.stopped()
    assert node.server.poll() is ServerState.STOPPED
