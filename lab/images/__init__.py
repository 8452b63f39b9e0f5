"""Owns the container images of the lab: builds them as docker archives into the cache.

`build` makes what is missing or stale and returns every archive; `versions` tells which
PostgreSQL is inside; `operator_image` rebuilds the operator alone. Never talks to a cluster:
importing the archives into the nodes is `lab.nodes`' business.
"""

from __future__ import annotations

from lab.images.catalogue import build, operator_image, versions

__all__ = ["build", "operator_image", "versions"]
