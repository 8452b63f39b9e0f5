"""Reads and writes one Lease by compare-and-swap. Owns the mapping between object and RawLease.

It interprets nothing: not the record, not the times. Whatever it does not know in the object it
writes back as it was read.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pgha.kube.client import Api

OWN_PREFIX = "pgha.dev/"


@dataclass(frozen=True)
class RawLease:
    """A Lease as read; `object` is the whole of it, and is what `write` starts from."""

    resource_version: str
    uid: str
    holder: str | None = None
    duration: int | None = None
    renew_time: str | None = None
    acquire_time: str | None = None
    transitions: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    object: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def micro_time(seconds: float | None = None) -> str:
    """Wall-clock time (now by default) as Kubernetes writes a MicroTime. For people to read."""
    seconds = time.time() if seconds is None else seconds
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{micros:06d}Z"


def parse_lease(obj: Mapping[str, Any]) -> RawLease:
    """A Lease object (of a read or of a watch); anything malformed in it reads as absent."""
    metadata, spec = _mapping(obj.get("metadata")), _mapping(obj.get("spec"))
    return RawLease(
        resource_version=_text(metadata.get("resourceVersion")) or "",
        uid=_text(metadata.get("uid")) or "",
        holder=_text(spec.get("holderIdentity")),
        duration=_number(spec.get("leaseDurationSeconds")),
        renew_time=_text(spec.get("renewTime")),
        acquire_time=_text(spec.get("acquireTime")),
        transitions=_number(spec.get("leaseTransitions")) or 0,
        annotations={
            key: value
            for key, value in _mapping(metadata.get("annotations")).items()
            if isinstance(value, str)
        },
        object=obj,
    )


class LeaseApi:
    """One Lease of the client's namespace."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self.name = name
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases"
        self.path = f"{self._folder}/{name}"

    def read(self, timeout: float) -> RawLease:
        """The newest Lease, by a quorum read; NotFound when there is none."""
        return parse_lease(self._api.request("GET", self.path, timeout=timeout, lease=True))

    def write(self, lease: RawLease, timeout: float) -> RawLease:
        """Replace the Lease if it is still as `lease` was read; answers it as it is now.

        Raises Conflict when it changed or is gone (the UID is a precondition, which the server
        answers so; `read` tells which), and ApiError with `ambiguous` when the write may have
        landed. Annotations of the prefix pgha.dev/ that are not in `lease` are
        removed, foreign ones are kept.
        """
        if not lease.resource_version:
            raise ValueError(f"Lease {self.name}: a write without resourceVersion is no CAS")
        body = _filled(lease, copy.deepcopy(dict(lease.object)), self.name, self._api.namespace)
        body["metadata"]["resourceVersion"] = lease.resource_version
        if lease.uid:
            body["metadata"]["uid"] = lease.uid
        return parse_lease(
            self._api.request("PUT", self.path, body, timeout=timeout, query=_MANAGER, lease=True)
        )

    def create(self, lease: RawLease, timeout: float) -> RawLease:
        """Create the Lease (after it was deleted by hand); Conflict when another did it first.

        Labels and owner references of the object that `lease` was read from are carried over.
        """
        old = _mapping(lease.object.get("metadata"))
        body = _filled(lease, {}, self.name, self._api.namespace)
        for key in ("labels", "ownerReferences", "finalizers"):
            if old.get(key):
                body["metadata"][key] = copy.deepcopy(old[key])
        return parse_lease(
            self._api.request(
                "POST", self._folder, body, timeout=timeout, query=_MANAGER, lease=True
            )
        )


_MANAGER = {"fieldManager": "pgha"}


def _filled(lease: RawLease, body: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    body["apiVersion"], body["kind"] = "coordination.k8s.io/v1", "Lease"
    metadata = body["metadata"] = dict(_mapping(body.get("metadata")))
    metadata["name"], metadata["namespace"] = name, namespace
    kept = {
        key: value
        for key, value in _mapping(metadata.get("annotations")).items()
        if not key.startswith(OWN_PREFIX)
    }
    metadata["annotations"] = {**kept, **lease.annotations}
    spec = body["spec"] = dict(_mapping(body.get("spec")))
    values: dict[str, Any] = {
        "holderIdentity": lease.holder,
        "leaseDurationSeconds": lease.duration,
        "renewTime": lease.renew_time,
        "acquireTime": lease.acquire_time,
        "leaseTransitions": lease.transitions,
    }
    for key, value in values.items():
        if value is None:
            spec.pop(key, None)
        else:
            spec[key] = value
    return body


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
