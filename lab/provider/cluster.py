"""Calls of the Kubernetes API. Owns the connection; knows kinds only by discovery."""

from __future__ import annotations

import os
from typing import Any, cast

import kubernetes
import yaml
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError, NotFoundError

MANAGER = "pulumi-kubernetes"


class Cluster:
    """`configuration`: the provider's own settings, all optional."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        given = configuration.get("kubeconfig") or None
        context = configuration.get("context") or None
        if given and ("\n" in given or given.lstrip().startswith("{")):
            client = kubernetes.config.new_client_from_config_dict(  # type: ignore[no-untyped-call]
                yaml.safe_load(given), context=context
            )
        else:
            path = os.path.expanduser(given) if given else None
            client = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
                path, context=context
            )
        self._dynamic = DynamicClient(client)  # type: ignore[no-untyped-call]

    def _of(self, obj: dict[str, Any]) -> Any:
        return self._dynamic.resources.get(api_version=obj["apiVersion"], kind=obj["kind"])

    def get(self, obj: dict[str, Any]) -> dict[str, Any] | None:
        metadata = obj["metadata"]
        try:
            found = self._of(obj).get(
                name=metadata["name"], namespace=metadata.get("namespace")
            )
        except NotFoundError:
            return None
        return _plain(found)

    def apply(self, obj: dict[str, Any], force: bool, manager: str = MANAGER) -> dict[str, Any]:
        metadata = obj["metadata"]
        return _plain(self._of(obj).server_side_apply(
            body=obj, name=metadata["name"], namespace=metadata.get("namespace"),
            field_manager=manager, force_conflicts=force,
        ))

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fails with AlreadyExists; the field manager is that of later applies."""
        return _plain(self._of(obj).create(
            body=obj, namespace=obj["metadata"].get("namespace"), field_manager=MANAGER
        ))

    def disown_create(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Forget that the object was made by a plain create before it was applied.

        The create's entry in managedFields would be a second owner of every field, and the next
        apply would conflict with this very program.
        """
        metadata, resource = obj["metadata"], self._of(obj)
        where = {"name": metadata["name"], "namespace": metadata.get("namespace")}
        while True:
            live = resource.get(**where).to_dict()["metadata"]
            kept = [
                entry for entry in live.get("managedFields") or []
                if (entry.get("manager"), entry.get("operation")) != (MANAGER, "Update")
            ]
            body = {"metadata": {"resourceVersion": live["resourceVersion"], "managedFields": kept}}
            try:
                return _plain(resource.patch(
                    body=body, content_type="application/merge-patch+json", **where
                ))
            except ConflictError:
                continue  # a controller wrote its status in between

    def delete(self, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        try:
            self._of(obj).delete(
                name=metadata["name"], namespace=metadata.get("namespace"),
                body={"propagationPolicy": "Foreground"},
            )
        except NotFoundError:
            return

    def listed(self, api_version: str, kind: str, namespace: str, selector: str) -> list[Any]:
        resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
        found = resource.get(namespace=namespace, label_selector=selector)
        return [_plain(item) for item in found.items]

    def namespaced(self, obj: dict[str, Any]) -> bool:
        return bool(self._of(obj).namespaced)


def _plain(found: Any) -> dict[str, Any]:
    obj = cast(dict[str, Any], found.to_dict())
    (obj.get("metadata") or {}).pop("managedFields", None)
    return obj


def sentence(error: Exception) -> str:
    """What the API server said, without the noise."""
    if isinstance(error, DynamicApiError):
        try:
            return str(error.summary())  # type: ignore[no-untyped-call]
        except (ValueError, AttributeError):
            return str(error.reason)
    return str(error)
