"""The certificate that PostgreSQL shows. Owns the private copy of it, and notices a renewal.

kubelet renews a mounted Secret by the swap of one symlink, but PostgreSQL opens two files one after
the other, and does not start with two that do not fit. So it reads a copy: one PEM file with both,
that was tried first and is replaced by one rename. A Secret that is no use leaves the copy as it
was. What PostgreSQL is told to reload is served to new sessions; those that are there go on.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_Stamp = tuple[tuple[int, int, int], ...] | None


@dataclass(frozen=True)
class Source:
    """PEM files: the certificate with its chain, and its key."""

    certificate: Path
    key: Path

    @classmethod
    def of_clients(cls, folder: Path) -> Source:
        """The names of a Secret of type kubernetes.io/tls."""
        return cls(folder / "tls.crt", folder / "tls.key")

    @classmethod
    def of_members(cls, folder: Path) -> Source:
        """The names of the Secret NAME-members."""
        return cls(folder / "member.crt", folder / "member.key")


class ServerCertificate:
    """`path` is both, ssl_cert_file and ssl_key_file. `complain` gets one sentence for each
    content of `source` that is no use; until there was a good one, `fallback` is served."""

    def __init__(
        self, source: Source, fallback: Source, run_dir: Path, complain: Callable[[str], None]
    ) -> None:
        self.path = run_dir / "server.pem"
        self._source, self._fallback, self._complain = source, fallback, complain
        self._tried = False
        self._stamp: _Stamp = None

    def refresh(self) -> bool:
        """Look at the files; True if the copy is another now, so that PostgreSQL is to reload.
        Raises OSError if not even the fallback can be served."""
        stamp = _stamp(self._source)  # before the reading: a change meanwhile is seen next time
        if self._tried and stamp == self._stamp:
            return False
        tried_before, self._tried, self._stamp = self._tried, True, stamp
        before = self.path.read_bytes() if self.path.exists() else b""
        try:
            self._take(self._source)
        except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
            self._complain(
                f"the certificate {self._source.certificate} cannot be served ({e}): put a "
                "certificate and the key that fits it into its Secret"
            )
            if not tried_before and not self._works():
                self._take(self._fallback)
        return self.path.read_bytes() != before

    def _works(self) -> bool:
        """Whether a copy of before this agent's start is there and good."""
        try:
            _try(self.path)
        except (OSError, ValueError):
            return False
        return True

    def _take(self, source: Source) -> None:
        both = source.certificate.read_bytes() + b"\n" + source.key.read_bytes()
        new = self.path.with_name(".server.pem.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(both)
        try:
            _try(new)
        except (OSError, ValueError):
            new.unlink()
            raise
        new.replace(self.path)


def ends_at(certificate: Path) -> float:
    """Unix time at which the first certificate of a PEM file ends; NaN if it cannot be read."""
    try:
        # As in pgha.peers.tls: the standard library has no public reader.
        decoded = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]
        return float(ssl.cert_time_to_seconds(decoded["notAfter"]))
    except (OSError, ValueError, KeyError):
        return float("nan")


def _try(both: Path) -> None:
    """Raises what OpenSSL has against the file, as PostgreSQL would at its start."""
    # An empty password: else a key that has one would be asked for at the terminal.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(both, password="")


def _stamp(source: Source) -> _Stamp:
    """Which files are there; None while one is missing."""
    try:
        found = [os.stat(path) for path in (source.certificate, source.key)]
    except OSError:
        return None
    return tuple((f.st_ino, f.st_mtime_ns, f.st_size) for f in found)
