"""A client pod with psql in it: how an application in the cluster sees a database."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any

from lab.cluster import Lab
from tests.support.kube import Kube
from tests.support.waiting import until

NAME = "client"


@dataclass(frozen=True)
class ClientPod:
    """A running pod of the PostgreSQL image that does nothing but wait."""

    lab: Lab
    kube: Kube
    namespace: str

    def psql(self, url: str, query: str) -> subprocess.CompletedProcess[str]:
        """Run one statement with psql in the pod."""
        return self.run("psql", "--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-c", query, url)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.lab.exec_prefix(), "kubectl", "--namespace", self.namespace, "exec", NAME,
             "--", *command],
            env=self.lab.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=30,
        )  # fmt: skip


def start_client(lab: Lab, kube: Kube, namespace: str, image: str) -> ClientPod:
    """Start the pod and wait until it runs."""
    container: dict[str, Any] = {
        "name": "psql",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "runAsUser": 999,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    kube.create(
        kube.path(namespace, "pods"),
        {
            "metadata": {"name": NAME},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        },
    )
    path = kube.path(namespace, "pods", NAME)
    until(
        "the client pod to run",
        lambda: ((kube.get(path) or {}).get("status") or {}).get("phase") == "Running", 60, 0.3,
    )  # fmt: skip
    return ClientPod(lab, kube, namespace)
