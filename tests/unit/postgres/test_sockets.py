"""What the kernel says of a connection: when its other side was heard last."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from pgha.postgres.sockets import heard_ago, of_process

pytestmark = pytest.mark.unit

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((request.param, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as client:
            server, _ = listener.accept()
            with server:
                yield client, server


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def quiet(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_silence_grows_and_ends_with_data_or_an_acknowledgement(pair: Pair) -> None:
    client, server = pair
    mine = frozenset({inode(client)})
    quiet(0.5)
    age = heard_ago(mine)
    assert age is not None and 0.4 < age < 5
    server.sendall(b"WAL")
    age = heard_ago(mine)
    assert age is not None and age < 0.3, "data came"
    quiet(0.5)
    client.sendall(b"reply")  # nobody reads it: the kernel of the other side acknowledges it
    quiet(0.05)
    age = heard_ago(mine)
    assert age is not None and age < 0.3, "an acknowledgement came"


def test_only_the_sockets_that_are_asked_for_count(pair: Pair) -> None:
    client, server = pair
    quiet(0.5)
    with socket.socket() as idle:
        assert heard_ago(frozenset({inode(idle)})) is None, "it has no connection"
    assert heard_ago(frozenset()) is None
    assert {inode(client), inode(server)} <= of_process(os.getpid())
    client.close()
    assert heard_ago(frozenset({0})) is None


def test_a_process_that_is_gone_has_no_sockets() -> None:
    assert of_process(2**22 + 1) == frozenset()
