"""Provisions the lab's volumes: watches claims and gives each a disk of its own.

Owns the StorageClasses `standard` (default, expandable) and `fixed`, and the PersistentVolumes of
their claims. Level-triggered: any change makes it look at everything and mend what differs, so a
restart, a missed event or an API outage needs no special case. Run as
`python -m lab.storage --kubeconfig FILE --root DIR` in the network namespace of the API server.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, watch
from kubernetes.utils.quantity import parse_quantity

from lab.disks import DiskError, Disks

PROVISIONER = "disks.lab.pgha.dev"
CLASSES = {"standard": True, "fixed": False}

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

REQUEST_TIMEOUT = (3.0, 10.0)
WATCH_SECONDS = 240
# Everything is looked at this often even if no event came, and sooner after a failure.
RESYNC_SECONDS = 60.0
RETRY_SECONDS = 1.0

# What a call may end in while the API server is away or another writer was faster.
API_ERRORS = (client.ApiException, urllib3.exceptions.HTTPError, OSError)


def storage_classes() -> list[Any]:
    """The classes a claim of the lab may name."""
    return [
        client.V1StorageClass(
            metadata=client.V1ObjectMeta(
                name=name, annotations={DEFAULT_CLASS: str(name == "standard").lower()}
            ),
            provisioner=PROVISIONER,
            reclaim_policy="Delete",
            volume_binding_mode="Immediate",
            allow_volume_expansion=expandable,
        )
        for name, expandable in CLASSES.items()
    ]


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as 1Gi."""
    return int(parse_quantity(text))  # type: ignore[no-untyped-call]


def readable(size: int) -> str:
    """A size the way people write it: 1Gi rather than 1073741824."""
    for power, unit in ((30, "Gi"), (20, "Mi")):
        if size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return str(size)


def volume_name(claim: Any) -> str:
    """The PersistentVolume and the disk of a claim; the uid makes a new claim a new disk."""
    return f"pvc-{claim.metadata.uid}"


def requested_bytes(claim: Any) -> int:
    """The size a claim asks for."""
    return quantity(claim.spec.resources.requests["storage"])


def volume_of(claim: Any, path: Path, size: int) -> Any:
    """A PersistentVolume that only this claim can bind, reachable from every node."""
    return client.V1PersistentVolume(
        metadata=client.V1ObjectMeta(
            name=volume_name(claim), annotations={PROVISIONED_BY: PROVISIONER}
        ),
        spec=client.V1PersistentVolumeSpec(
            capacity={"storage": readable(size)},
            access_modes=claim.spec.access_modes,
            storage_class_name=claim.spec.storage_class_name,
            persistent_volume_reclaim_policy="Delete",
            volume_mode="Filesystem",
            host_path=client.V1HostPathVolumeSource(path=str(path), type="Directory"),
            claim_ref=client.V1ObjectReference(
                api_version="v1",
                kind="PersistentVolumeClaim",
                namespace=claim.metadata.namespace,
                name=claim.metadata.name,
                uid=claim.metadata.uid,
            ),
        ),
    )


@dataclass
class Provisioner:
    """Makes the disks and volumes what the claims ask for."""

    api: Any
    disks: Disks
    failures: list[str] = field(default_factory=list)

    def reconcile(self) -> bool:
        """Look at every claim and volume once; False when something has to be tried again."""
        self.failures = []
        volumes = self.api.list_persistent_volume(_request_timeout=REQUEST_TIMEOUT).items
        # The claims after the volumes: a claim made in between is seen, its volume is then made.
        claims = self.api.list_persistent_volume_claim_for_all_namespaces(
            _request_timeout=REQUEST_TIMEOUT
        ).items
        ours = {
            volume.metadata.name: volume
            for volume in volumes
            if (volume.metadata.annotations or {}).get(PROVISIONED_BY) == PROVISIONER
        }
        wanted = {
            volume_name(claim): claim
            for claim in claims
            if claim.spec.storage_class_name in CLASSES and not claim.metadata.deletion_timestamp
        }
        for name, claim in wanted.items():
            self._attempt(name, partial(self._serve, claim, ours.get(name)))
        held = {volume_name(claim) for claim in claims}
        for name in sorted((set(ours) | set(self.disks.names())) - held):
            # No claim: the volume is released (reclaim policy Delete), or the disk an orphan.
            self._attempt(name, partial(self._reclaim, name, name in ours))
        return not self.failures

    def _attempt(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (DiskError, *API_ERRORS) as error:
            reason = getattr(error, "reason", None) or str(error)
            self.failures.append(f"volume {name}: {reason}")

    def _serve(self, claim: Any, volume: Any | None) -> None:
        name = volume_name(claim)
        if volume is None and claim.spec.volume_name:
            return  # bound by hand to a volume of somebody else
        if claim.spec.volume_mode == "Block":
            self._refuse(claim, "volumeMode Block is not offered by the lab, use Filesystem")
            return
        asked = requested_bytes(claim)
        size = self.disks.provide(name, asked)
        if volume is None:
            created = volume_of(claim, self.disks.mount_point(name), size)
            self.api.create_persistent_volume(created, _request_timeout=REQUEST_TIMEOUT)
            _say(f"volume {name} of {readable(size)} for {_full_name(claim)}")
            return
        capacity = quantity(volume.spec.capacity["storage"])
        if asked > capacity:
            size = self.disks.grow(name, asked)
            self._set_capacity(claim, name, size)
        elif self._reported(claim) < min(asked, capacity):
            self._set_capacity(claim, name, capacity)

    def _reported(self, claim: Any) -> int:
        """The size the claim's status tells; an unbound claim has none, nothing to correct."""
        if claim.status.phase != "Bound" or not claim.status.capacity:
            return sys.maxsize
        return quantity(claim.status.capacity["storage"])

    def _set_capacity(self, claim: Any, name: str, size: int) -> None:
        """What an external resizer does: the volume first, the claim's status after it."""
        self.api.patch_persistent_volume(
            name,
            {"spec": {"capacity": {"storage": readable(size)}}},
            _request_timeout=REQUEST_TIMEOUT,
        )
        if claim.status.phase == "Bound":
            self.api.patch_namespaced_persistent_volume_claim_status(
                claim.metadata.name,
                claim.metadata.namespace,
                {"status": {"capacity": {"storage": readable(size)}, "conditions": []}},
                _request_timeout=REQUEST_TIMEOUT,
            )
        _say(f"volume {name} of {_full_name(claim)} grown to {readable(size)}")

    def _reclaim(self, name: str, has_volume: bool) -> None:
        if name in self.disks.names():
            self.disks.remove(name)
        if has_volume:
            try:
                self.api.delete_persistent_volume(name, _request_timeout=REQUEST_TIMEOUT)
            except client.ApiException as error:
                if error.status != 404:
                    raise
        _say(f"volume {name} removed")

    def _refuse(self, claim: Any, why: str) -> None:
        """Tell the claim's owner by an Event, once."""
        meta = claim.metadata
        event = client.CoreV1Event(
            metadata=client.V1ObjectMeta(
                name=f"{meta.name}.{meta.uid[:8]}", namespace=meta.namespace
            ),
            involved_object=client.V1ObjectReference(
                api_version="v1",
                kind="PersistentVolumeClaim",
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
            ),
            type="Warning",
            reason="ProvisioningFailed",
            message=why,
            source=client.V1EventSource(component=PROVISIONER),
        )
        try:
            self.api.create_namespaced_event(
                meta.namespace, event, _request_timeout=REQUEST_TIMEOUT
            )
        except client.ApiException as error:
            if error.status != 409:
                raise


def create_classes(storage_api: Any) -> None:
    """Create the StorageClasses that are not there."""
    for storage_class in storage_classes():
        try:
            storage_api.create_storage_class(storage_class, _request_timeout=REQUEST_TIMEOUT)
        except client.ApiException as error:
            if error.status != 409:
                raise


def keep_watching(list_all: Callable[..., Any], changed: threading.Event) -> None:
    """Set the event whenever an object of the list changes, and whenever a watch starts again."""
    pause = threading.Event()
    while True:
        try:
            stream = watch.Watch().stream(  # type: ignore[no-untyped-call]
                list_all,
                timeout_seconds=WATCH_SECONDS,
                _request_timeout=(3.0, WATCH_SECONDS + 30.0),
            )
            for _ in stream:
                changed.set()
        except API_ERRORS:
            pause.wait(RETRY_SECONDS)
        changed.set()


def serve(kubeconfig: Path, root: Path) -> None:
    """Provision until SIGTERM; the disks stay mounted then."""
    config.load_kube_config(str(kubeconfig))  # type: ignore[no-untyped-call]
    api = client.CoreV1Api()
    provisioner = Provisioner(api, Disks(root.absolute()))
    changed = threading.Event()
    changed.set()
    ready = False
    for list_all in (
        api.list_persistent_volume,
        api.list_persistent_volume_claim_for_all_namespaces,
    ):
        threading.Thread(target=keep_watching, args=(list_all, changed), daemon=True).start()
    wait = 0.0
    told: list[str] = []
    while True:
        changed.wait(wait)
        changed.clear()
        try:
            if not ready:
                create_classes(client.StorageV1Api())
                ready = True
                _say(f"provisioning below {root}")
            done = provisioner.reconcile()
            failures = provisioner.failures
        except API_ERRORS as error:
            done, failures = False, [f"API server: {getattr(error, 'reason', error)}"]
        if failures != told:
            for failure in failures:
                _say(failure)
            told = failures
        wait = RESYNC_SECONDS if done else RETRY_SECONDS
        if not done:
            # Events may come thick while the API server is half up; do not spin on them.
            threading.Event().wait(RETRY_SECONDS / 4)


def cleanup(root: Path) -> None:
    """Unmount, detach and delete every disk below the folder, for `lab down`."""
    Disks(root.absolute()).remove_all()


def _full_name(claim: Any) -> str:
    return f"{claim.metadata.namespace}/{claim.metadata.name}"


def _say(text: str) -> None:
    print(f"storage: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.storage", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True, help="where the disks are kept")
    parsed = parser.parse_args(arguments)
    # At once: an exception out of a signal handler can be raised where it is ignored, or while a
    # lock is held that the end waits for. What is half done a killed provisioner leaves as well.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    serve(parsed.kubeconfig, parsed.root)


if __name__ == "__main__":
    main(sys.argv[1:])
