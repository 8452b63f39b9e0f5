"""The Kubernetes API as a user with a kubeconfig sees it. Owns the connection, not its meaning.

Plain JSON in and out: the typed models of the client library cost a second of CPU per list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

JSON = "application/json"
MERGE = "application/merge-patch+json"


class KubeError(Exception):
    """The API server's refusal, with its status code."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Kube:
    """One kubeconfig that logs in by certificate. Every call has a deadline."""

    def __init__(self, kubeconfig: Path) -> None:
        from kubernetes import client, config  # 0.7 s: not for runs that need no cluster

        self.kubeconfig = kubeconfig
        load: Any = config  # it carries no types
        login: Any = client.Configuration()
        load.load_kube_config(str(kubeconfig), client_configuration=login)
        self._host = str(login.host).rstrip("/")
        self._pool = urllib3.PoolManager(
            maxsize=8, cert_reqs="CERT_REQUIRED", ca_certs=login.ssl_ca_cert,
            cert_file=login.cert_file, key_file=login.key_file,
        )  # fmt: skip

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = JSON,
        seconds: float = 10.0,
    ) -> dict[str, Any]:  # fmt: skip
        """One request; raises KubeError, with status 0 where no answer came."""
        try:
            answer = self._pool.request(
                method, self._host + path, timeout=seconds, retries=1 if method == "GET" else False,
                headers={"Content-Type": content_type, "Accept": JSON},
                body=None if body is None else json.dumps(body),
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise KubeError(0, f"{method} {path}: {error}") from error
        if answer.status >= 300:
            raise KubeError(answer.status, f"{method} {path}: {answer.data.decode()}")
        return dict(json.loads(answer.data)) if answer.data else {}

    def text(self, path: str) -> str:
        """What is no JSON: metrics."""
        answer = self._pool.request("GET", self._host + path, timeout=30.0)
        if answer.status >= 300:
            raise KubeError(answer.status, f"GET {path}")
        return str(answer.data.decode())

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        try:
            return self.request("GET", path + (f"?{urlencode(query)}" if query else ""))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def watch(self, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        """The events of a watch, until it is silent for half a minute or breaks."""
        text = urlencode({**query, "watch": "1", "allowWatchBookmarks": "true",
                          "timeoutSeconds": "25"})  # fmt: skip
        try:
            answer = self._pool.request(
                "GET", f"{self._host}{path}?{text}", preload_content=False, retries=False,
                timeout=urllib3.Timeout(connect=3, read=30), headers={"Accept": JSON},
            )  # fmt: skip
            if answer.status >= 300:
                raise KubeError(answer.status, f"watch {path}")
            rest = b""
            for piece in answer.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] != "BOOKMARK":
                        yield event
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(0, f"watch {path}: {error}") from error

    def list(self, path: str, **query: str) -> list[dict[str, Any]]:
        found = self.get(path, **query)
        return list((found or {}).get("items") or [])

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.request("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.request("PATCH", path, body, MERGE)

    def delete(self, path: str, grace: int | None = None) -> None:
        """Ask for the deletion; an object that is not there is fine."""
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        try:
            self.request("DELETE", path, options)
        except KubeError as error:
            if error.status != 404:
                raise

    # The few kinds that tests look at, by name.

    @staticmethod
    def path(namespace: str, resource: str, name: str = "") -> str:
        """resource: `pods`, or with its group as `coordination.k8s.io/v1/leases`."""
        group, _, kind = resource.rpartition("/")
        base = f"/apis/{group}" if group else "/api/v1"
        return f"{base}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


LEASES = "coordination.k8s.io/v1/leases"
STATEFUL_SETS = "apps/v1/statefulsets"
SLICES = "discovery.k8s.io/v1/endpointslices"
EVENTS = "events"
CLAIMS = "persistentvolumeclaims"
