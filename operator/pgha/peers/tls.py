"""Mutual TLS with the stack's own CA. Owns contexts and notices when the files were renewed."""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files; the one certificate is shared by all members of a cluster.

    `server_name` is the SAN that a peer's certificate must bear; by default the first one of the
    own certificate that is no wildcard (NAME-pods).
    """

    ca: Path
    cert: Path
    key: Path
    server_name: str | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> TlsFiles:
        """The names of the Secret NAME-members."""
        return cls(folder / "ca.crt", folder / "member.crt", folder / "member.key")


class Contexts:
    """The current SSL context; built again when a file changed. Safe for threads."""

    def __init__(self, files: TlsFiles, server: bool) -> None:
        self._files, self._server = files, server
        self._lock = threading.Lock()
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._context: ssl.SSLContext | None = None
        self._name = ""

    def current(self) -> tuple[ssl.SSLContext, str]:
        """Context and the peer's expected name; raises OSError when no good files were ever read.

        Files that are renewed one by one can be seen half new: then the old context serves on.
        """
        with self._lock:
            try:
                stamp = tuple(self._stat(p) for p in (self._files.ca, self._files.cert,
                                                      self._files.key))  # fmt: skip
                if self._context is None or stamp != self._stamp:
                    context, name = self._build()
                    self._context, self._name, self._stamp = context, name, stamp
            except OSError as error:  # ssl.SSLError is one
                if self._context is None:
                    raise
                log.warning("the renewed member certificate is not usable yet (%s)", error)
            return self._context, self._name

    @staticmethod
    def _stat(path: Path) -> tuple[int, int, int]:
        found = path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _build(self) -> tuple[ssl.SSLContext, str]:
        kind = ssl.PROTOCOL_TLS_SERVER if self._server else ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(kind)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self._files.ca)
        context.load_cert_chain(self._files.cert, self._files.key)
        if self._server:
            context.num_tickets = 0  # each call is a connection of its own, nothing is resumed
        return context, self._files.server_name or own_name(self._files.cert)


def own_name(cert: Path) -> str:
    """The first DNS name of a certificate that is no wildcard; raises OSError if there is none."""
    # The standard library offers no public reader of a certificate file; this one is what its own
    # tests use, and it is there in every CPython since 2.6.
    decoded = ssl._ssl._test_decode_cert(str(cert))  # type: ignore[attr-defined]
    for kind, value in decoded.get("subjectAltName", ()):
        if kind == "DNS" and not value.startswith("*"):
            return str(value)
    raise OSError(f"the member certificate {cert} bears no plain DNS name: it was not made by us")
