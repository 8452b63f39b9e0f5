"""A watch whose last version is of a future that etcd was restored from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pgha.kube.errors import ApiError
from pgha.kube.watching import Watch

pytestmark = pytest.mark.unit

QUIET = 90.0
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1001"}}}\n'


class Restored:
    """An API server that has listed at version 1000, and went back to 800 behind the watch."""

    def __init__(self, stream: Callable[[Restored], bytes]) -> None:
        self.now, self.listed, self._read = 0.0, 0, stream
        self.opened: list[str] = []
        self.watch = Watch(
            self, "/leases", lambda objects: None, lambda why: None,  # type: ignore[arg-type]
            quiet=QUIET, clock=lambda: self.now,
        )
        self.watch._stopping.wait = lambda timeout=None: False  # type: ignore[method-assign]

    def request(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.listed += 1
        return {"items": [], "metadata": {"resourceVersion": "1000" if self.listed == 1 else "800"}}

    @contextmanager
    def stream(self, path: str, query: dict[str, str], *_: Any) -> Iterator[Any]:
        self.opened.append(query["resourceVersion"])
        if len(self.opened) == 3:
            self.watch._stopping.set()
        yield SimpleNamespace(connection=None, read1=lambda size: self._read(self))


def mute(server: Restored) -> bytes:
    server.now += QUIET
    raise TimeoutError("timed out")


def broken(server: Restored) -> bytes:
    server.now += 1.0
    raise ConnectionResetError("reset")


def too_large(server: Restored) -> bytes:
    raise ApiError(504, "Timeout", "Too large resource version: 1000, current: 800")


def told(server: Restored) -> bytes:
    if server.now % 2 == 0:
        server.now += 1
        return BOOKMARK
    server.now += QUIET
    raise TimeoutError("timed out")


@pytest.mark.parametrize("stream, opened", [
    (mute, ["1000", "800", "800"]),
    (too_large, ["1000", "800", "800"]),
    (broken, ["1000", "1000", "1000"]),  # the version is as good as before
    (told, ["1000", "1001", "800"]),  # not at once: it had a word from the server
])
def test_a_version_that_the_server_has_not_reached_leads_to_a_new_list(
    stream: Callable[[Restored], bytes], opened: list[str]
) -> None:
    server = Restored(stream)
    server.watch._run()
    assert server.opened == opened
