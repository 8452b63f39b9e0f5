"""A release that could not be written, told over the members' own channel."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pgha.lsn import LSN, Position
from pgha.parting import Parting
from pgha.peers.client import PeerClient
from pgha.peers.server import PeerServer
from pgha.record import Record, Release
from tests.unit.peers.test_peer_calls import HOST, Ca

pytestmark = pytest.mark.unit

RECORD = Record(term=7, release=Release("a-0/u/s", 7, "a-1"), end=Position(3, LSN(640)))
SILENT = "127.0.0.2"


class Members:
    """One that listens, and one that never answers."""

    def __init__(self, folder: Path) -> None:
        files = Ca().member(folder)
        self.heard: list[tuple[str, Record]] = []
        listens = Parting(PeerClient(files, 1), lambda: {}, lambda *told: self.heard.append(told))
        self.server = PeerServer(HOST, 0, files, {"/released": listens.hear}).start()
        self.silent = socket.create_server((SILENT, self.server.port))
        client = PeerClient(files, self.server.port)
        self.leaving = Parting(client, lambda: {"a-1": HOST, "a-2": SILENT}, lambda *told: None)


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    made = Members(tmp_path)
    yield made
    made.silent.close()
    made.server.stop()


def test_it_is_heard_as_it_was_told_and_by_whom_is_known(members: Members) -> None:
    began = time.monotonic()
    assert members.leaving.tell("uid/17", RECORD) == ("a-1",)
    assert members.heard == [("uid/17", RECORD)]
    assert time.monotonic() - began < 10, "nobody who is silent is waited for"


@pytest.mark.parametrize(("body", "sentence"), [
    ({}, 'ReleaseNotice lacks "version"'),
    ({"version": "uid/17", "record": "{"}, "the record on the Lease cannot be read"),
    ({"version": "uid/17", "record": replace(RECORD, release=None).dump()}, "bears no release"),
])
def test_what_cannot_be_read_is_one_sentence(
    body: dict[str, str], sentence: str, members: Members
) -> None:
    with pytest.raises(ValueError, match=sentence):
        members.leaving.hear(body)
    assert members.heard == []
