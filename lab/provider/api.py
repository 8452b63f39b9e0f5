"""Calls of the Kubernetes API. Owns the connection; knows kinds only by discovery.

Plain HTTP with urllib3: a provider is started twice for each run of `pulumi`, and the models of
the `kubernetes` package would cost each start half a second.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

import urllib3

from lab.provider.kubeconfig import Target

Object = dict[str, Any]

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
APPLY = "application/apply-patch+yaml"  # JSON is YAML
JSON_PATCH = "application/json-patch+json"


class ApiError(Exception):
    """The API server refused; the text is its own."""

    def __init__(self, status: int, reason: str, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.status, self.reason, self.kind = status, reason, kind


class NoSuchKind(Exception):
    """The API server does not know the kind: a CustomResourceDefinition is missing."""


class Unreachable(Exception):
    """No answer at all."""


@dataclass(frozen=True)
class Kind:
    """Where objects of a kind live in the API."""

    plural: str
    namespaced: bool


class Kubernetes(Protocol):
    """What the verbs need of a cluster; tests have one of their own."""

    @property
    def default_namespace(self) -> str: ...
    def namespaced(self, version: str, kind: str) -> bool: ...
    def get(self, obj: Object) -> Object | None: ...
    def create(self, obj: Object, manager: str, dry_run: bool = False) -> Object: ...
    def apply(self, obj: Object, manager: str, force: bool, dry_run: bool = False) -> Object: ...
    def set_managers(self, live: Object, entries: list[Object]) -> Object: ...
    def delete(self, obj: Object, propagation: str) -> bool: ...
    def list(
        self, version: str, kind: str, namespace: str, selector: str = ""
    ) -> list[Object]: ...


class Api:
    """One cluster. Methods block; they may be called from many threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._kinds: dict[str, dict[str, Kind]] = {}
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)
        if target.server.startswith("https"):
            self._http = urllib3.PoolManager(
                maxsize=32, timeout=timeout, ssl_context=target.ssl_context(),
                server_hostname=target.server_name, assert_hostname=target.server_name,
            )  # fmt: skip
        else:
            self._http = urllib3.PoolManager(maxsize=32, timeout=timeout)

    @property
    def default_namespace(self) -> str:
        return self._target.namespace

    def namespaced(self, version: str, kind: str) -> bool:
        return self._kind(version, kind).namespaced

    def get(self, obj: Object) -> Object | None:
        try:
            return self._call("GET", self._path(obj))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, obj: Object, manager: str, dry_run: bool = False) -> Object:
        path = self._path(obj).rpartition("/")[0]
        return self._call("POST", path, obj, self._query(manager, dry_run))

    def apply(self, obj: Object, manager: str, force: bool, dry_run: bool = False) -> Object:
        query = {**self._query(manager, dry_run), "force": "true" if force else "false"}
        return self._call("PATCH", self._path(obj), obj, query, APPLY)

    def set_managers(self, live: Object, entries: list[Object]) -> Object:
        """Fails with a conflict if the object changed since it was read."""
        metadata = live["metadata"]
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
            {"op": "replace", "path": "/metadata/resourceVersion",
             "value": metadata["resourceVersion"]},
        ]  # fmt: skip
        return self._call("PATCH", self._path(live), patch, {}, JSON_PATCH)

    def delete(self, obj: Object, propagation: str) -> bool:
        """False if it is gone already."""
        try:
            self._call("DELETE", self._path(obj), {"propagationPolicy": propagation})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def list(self, version: str, kind: str, namespace: str, selector: str = "") -> list[Object]:
        obj = {"apiVersion": version, "kind": kind,
               "metadata": {"name": "", "namespace": namespace}}  # fmt: skip
        query = {"labelSelector": selector} if selector else {}
        found = self._call("GET", self._path(obj).rstrip("/"), None, query)
        return [{"apiVersion": version, "kind": kind, **item} for item in found["items"]]

    @staticmethod
    def _query(manager: str, dry_run: bool) -> dict[str, str]:
        return {"fieldManager": manager, **({"dryRun": "All"} if dry_run else {})}

    def _path(self, obj: Object) -> str:
        version, metadata = str(obj["apiVersion"]), obj["metadata"]
        kind = self._kind(version, str(obj["kind"]))
        space = f"/namespaces/{metadata.get('namespace') or self.default_namespace}"
        within = space if kind.namespaced else ""
        return f"{_root(version)}{within}/{kind.plural}/{metadata.get('name') or ''}"

    def _kind(self, version: str, kind: str) -> Kind:
        with self._lock:
            known = self._kinds.get(version, {})
        if kind not in known:
            known = self._discover(version)
            with self._lock:
                self._kinds[version] = known
        if kind not in known:
            raise NoSuchKind(f'no matches for kind "{kind}" in version "{version}"')
        return known[kind]

    def _discover(self, version: str) -> dict[str, Kind]:
        try:
            answer = self._call("GET", _root(version))
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return {
            each["kind"]: Kind(each["name"], each["namespaced"])
            for each in answer["resources"]
            if "/" not in each["name"]
        }

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        content: str = "application/json",
    ) -> Object:
        url = self._target.server + path + (f"?{urlencode(query)}" if query else "")
        headers = {**self._target.headers, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._http.request(
                method, url, body=data, headers=headers, retries=_retries(method)
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"no answer from {self._target.server}: {_plainly(error)}") from error
        if answer.status >= 400:
            raise _refusal(answer.status, answer.data)
        found: Object = json.loads(answer.data)
        return found


def _retries(method: str) -> urllib3.Retry:
    """A refused connection was never heard, so every verb may try again; an answer that is lost
    may have been a yes, and then a second `create` would find its own object in the way."""
    return urllib3.Retry(
        total=None, connect=3, read=0 if method == "POST" else 2, redirect=0, status=5, other=0,
        status_forcelist=(429,), allowed_methods=None, backoff_factor=0.3, raise_on_status=False,
    )  # fmt: skip


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _plainly(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error)


def _refusal(status: int, data: bytes) -> ApiError:
    try:
        said = json.loads(data)
    except ValueError:
        return ApiError(status, "", data.decode(errors="replace").strip() or f"HTTP {status}")
    details = said.get("details") or {}
    return ApiError(status, said.get("reason", ""), said.get("message", f"HTTP {status}"),
                    details.get("kind", ""))  # fmt: skip
