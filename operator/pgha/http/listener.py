"""A listening TCP socket and its accepting thread. Owns the socket; knows no protocol.

Idle costs nothing: the thread sleeps in accept(), and `close` wakes it by shutting the socket.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

BACKLOG = 64


class Listener:
    """Calls `serve(connection)` on the accepting thread for each connection.

    The address "" is every address of the pod, IPv4 and IPv6: which of them kubelet and the other
    members use is the cluster's choice.
    """

    def __init__(
        self, address: str, port: int, serve: Callable[[socket.socket], None], name: str
    ) -> None:
        self._socket = _everywhere(port) if address in ("", "::") else _listening(address, port)
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


def _everywhere(port: int) -> socket.socket:
    """One socket for both families; IPv4 alone where the kernel has no IPv6."""
    if socket.has_dualstack_ipv6():
        try:
            return _listening("::", port, both=True)
        except OSError as error:
            # A port that is taken by one family must not be served half.
            if error.errno == errno.EADDRINUSE:
                raise
            log.info("port %d: no IPv6 (%s)", port, error)
    return _listening("", port)


def _listening(address: str, port: int, both: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server(
        (address, port), family=family, backlog=BACKLOG, dualstack_ipv6=both
    )
