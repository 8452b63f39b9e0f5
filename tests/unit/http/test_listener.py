"""Which addresses a listener without one of its own is reached at."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pgha.http.listener import Listener

pytestmark = pytest.mark.unit

IPV4, IPV6 = "127.0.0.1", "::1"


def _has_ipv6() -> bool:
    try:
        with socket.create_server((IPV6, 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@contextmanager
def listening(address: str = "", port: int = 0) -> Iterator[Listener]:
    def serve(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"here")

    made = Listener(address, port, serve, "test")
    made.start()
    try:
        yield made
    finally:
        made.close()


def answers(listener: Listener, host: str) -> bool:
    try:
        with socket.create_connection((host, listener.port), 10) as sock:
            return sock.recv(100) == b"here"
    except ConnectionRefusedError:
        return False


def without_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As a kernel that fails so when it is asked for an IPv6 address."""
    create = socket.create_server

    def refuse(address: Any, *, family: int, **rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        return create(address, family=family, **rest)

    monkeypatch.setattr(socket, "create_server", refuse)


@ipv6
@pytest.mark.parametrize("address", ["", "::"])
def test_it_is_reached_by_both_families(address: str) -> None:
    with listening(address) as listener:
        assert answers(listener, IPV4) and answers(listener, IPV6)


@ipv6
def test_an_address_of_its_own_is_the_only_one() -> None:
    for address, other in ((IPV4, IPV6), (IPV6, IPV4)):
        with listening(address) as listener:
            assert answers(listener, address) and not answers(listener, other)


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_it_is_reached_by_ipv4_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    without_ipv6(monkeypatch, number)
    with listening() as listener:
        assert answers(listener, IPV4)


def test_it_is_reached_by_ipv4_where_python_knows_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening() as listener:
        assert answers(listener, IPV4)


@ipv6
def test_a_port_that_one_family_has_taken_is_not_served_half() -> None:
    with socket.create_server((IPV6, 0), family=socket.AF_INET6) as taken:
        with pytest.raises(OSError) as caught:
            Listener("", taken.getsockname()[1], socket.socket.close, "test")
    assert caught.value.errno == errno.EADDRINUSE
