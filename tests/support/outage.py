"""The API server taken away for a while. Owns that it comes back, whatever the test does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lab.cluster import Lab


@contextlib.contextmanager
def api_gone(lab: Lab) -> Iterator[None]:
    """Without an API server as long as the block runs."""
    lab.control_plane.stop("kube-apiserver")
    try:
        yield
    finally:
        lab.control_plane.start("kube-apiserver")
        lab.control_plane.wait_ready()
        # Their watches back off for up to a minute after an outage; no test is about that.
        for name in ("kube-controller-manager", "kube-scheduler"):
            lab.control_plane.stop(name)
            lab.control_plane.start(name)
