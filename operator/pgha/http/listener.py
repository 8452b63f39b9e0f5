"""A listening TCP socket and its accepting thread. Owns the socket; knows no protocol.

Idle costs nothing: the thread sleeps in accept(), and `close` wakes it by shutting the socket.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Listener:
    """Calls `serve(connection)` on the accepting thread for each connection."""

    def __init__(
        self, address: str, port: int, serve: Callable[[socket.socket], None], name: str
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server(
            (address, port), family=family, backlog=64,
            dualstack_ipv6=address == "::" and socket.has_dualstack_ipv6(),
        )  # fmt: skip
        self.port: int = self._socket.getsockname()[1]
        self._serve = serve
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop accepting; connections being served go on to their own end."""
        self._closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not listening any more
        self._socket.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if self._closed:
                    return
                log.warning("port %d: accept failed (%s)", self.port, error)
                time.sleep(0.1)  # out of file descriptors: give the others time to close theirs
                continue
            try:
                self._serve(connection)
            except Exception:
                log.exception("port %d", self.port)
                connection.close()
