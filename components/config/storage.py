"""The claim of each member. Owns the keys of `storage`; what a live claim allows is standing.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.config.keys import join, key
from components.config.quantity import quantity_bytes
from components.config.refusal import refusal

DEFAULT_SIZE = "1Gi"
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany")


@dataclass(frozen=True)
class Requests:
    """`storage.resources.requests`."""

    storage: str = key("string", "")
    """Size of each member's claim, 1Gi when not given (Ephemeral: the limit of its emptyDir, none
    when not given); it may grow later where the storage class allows expansion, never shrink."""

    def check(self, path: str) -> None:
        if self.storage and quantity_bytes(self.storage) is None:
            raise refusal(
                join(path, "storage"), self.storage, "it must be a size greater than 0, as 1Gi"
            )


@dataclass(frozen=True)
class Resources:
    """`storage.resources`."""

    requests: Requests = key(Requests)
    """What each claim asks for."""


@dataclass(frozen=True)
class Storage:
    """`storage`: the PersistentVolumeClaim of each member."""

    storage_class_name: str = key("string", "")
    """StorageClass of the claims; empty: the cluster's default. Fixed once the stack is up."""

    access_modes: tuple[str, ...] = key("strings", ("ReadWriteOnce",))
    """Access modes of the claims: ReadWriteOnce, ReadWriteOncePod or ReadWriteMany. Fixed once the
    stack is up."""

    resources: Resources = key(Resources)
    """What each claim asks for."""

    data_source: dict[str, Any] | None = key("object", None)
    """Accepted only empty: a member starts from initdb or from a clone, never from a snapshot."""

    def check(self, path: str) -> None:
        modes = self.access_modes
        if not modes or any(mode not in ACCESS_MODES for mode in modes):
            raise refusal(
                join(path, "accessModes"),
                list(modes),
                f"it must list one or more of {', '.join(ACCESS_MODES)}",
            )
        if self.data_source is not None:
            raise refusal(
                join(path, "dataSource"),
                self.data_source,
                "it must be left out, since a member starts from initdb or from a clone",
            )

    @property
    def size(self) -> str:
        """The size of a claim as a quantity."""
        return self.resources.requests.storage or DEFAULT_SIZE
