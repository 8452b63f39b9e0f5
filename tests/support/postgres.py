"""A cluster as its user sees it: pods, labels, Services, SQL. Owns no fault and changes nothing.

Reads Kubernetes and PostgreSQL alone, nothing of the agent but what `pgha` prints.
"""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from typing import Any

import psycopg

from lab.cluster import Lab
from tests.support.kube import LEASES, Kube, KubeError
from tests.support.waiting import until

ROLE = "kubedb.com/role"
INSTANCE = "app.kubernetes.io/instance"
FETCHING = (psycopg.Error, KubeError)
FRESH_CONNECTIONS = 8  # of two endpoints each is met by all but one in 128 runs


@dataclass(frozen=True)
class Pod:
    """One pod as the API server shows it."""

    name: str
    uid: str
    labels: dict[str, str]
    address: str
    node: str
    ready: bool
    deleting: bool
    restarts: int

    @property
    def role(self) -> str | None:
        return self.labels.get(ROLE)

    @staticmethod
    def of(item: dict[str, Any]) -> Pod:
        meta, status = item["metadata"], item.get("status") or {}
        containers = status.get("containerStatuses") or []
        return Pod(
            name=meta["name"],
            uid=meta["uid"],
            labels=dict(meta.get("labels") or {}),
            address=status.get("podIP") or "",
            node=item["spec"].get("nodeName") or "",
            ready=any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in status.get("conditions") or []
            ),
            deleting="deletionTimestamp" in meta,
            restarts=sum(c.get("restartCount", 0) for c in containers),
        )


class Cluster:
    """One PostgreSQL cluster by name and namespace."""

    def __init__(
        self, lab: Lab, kube: Kube, namespace: str, name: str, database: str = "postgres"
    ) -> None:
        self.lab, self.kube = lab, kube
        self.namespace, self.name, self.database = namespace, name, database

    def path(self, resource: str, name: str = "") -> str:
        return self.kube.path(self.namespace, resource, name)

    # Kubernetes.

    def pods(self) -> dict[str, Pod]:
        found = self.kube.list(self.path("pods"), labelSelector=f"{INSTANCE}={self.name}")
        return {pod.name: pod for pod in map(Pod.of, found)}

    def pod(self, name: str) -> Pod:
        pods = self.pods()
        assert name in pods, f"there is no pod {name}, only {sorted(pods)}"
        return pods[name]

    def primary(self) -> Pod:
        """The one pod that bears the role primary; more than one is a broken promise (I5)."""
        found = [pod for pod in self.pods().values() if pod.role == "primary"]
        assert len(found) <= 1, f"two primaries by label: {[pod.name for pod in found]}"
        assert found, "no pod is labelled primary"
        return found[0]

    def replicas(self) -> list[Pod]:
        return [pod for pod in self.pods().values() if pod.role == "replica"]

    def lease(self) -> dict[str, Any] | None:
        return self.kube.get(self.path(LEASES, self.name))

    def holder(self) -> str:
        """The incarnation that holds the lease; empty while nobody does."""
        spec = (self.lease() or {}).get("spec") or {}
        return str(spec.get("holderIdentity") or "")

    def service_address(self, service: str = "") -> str:
        found = self.kube.get(self.path("services", service or self.name))
        assert found, f"there is no Service {service or self.name}"
        return str(found["spec"]["clusterIP"])

    def secret(self, name: str = "") -> dict[str, str]:
        found = self.kube.get(self.path("secrets", name or f"{self.name}-auth"))
        assert found, f"there is no Secret {name or self.name + '-auth'}"
        return {key: base64.b64decode(text).decode() for key, text in found["data"].items()}

    def kubectl(self, *arguments: str, seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.lab.exec_prefix(), "kubectl", "--namespace", self.namespace, *arguments],
            env=self.lab.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds,
        )  # fmt: skip

    def pgha(self, *arguments: str, pod: str = "") -> subprocess.CompletedProcess[str]:
        """The command line, run in a member's pod."""
        return self.kubectl(
            "exec", pod or self.primary().name, "-c", "postgres", "--",
            "/pgha/bin/pgha", *arguments, seconds=90.0,
        )  # fmt: skip

    # SQL.

    def connect(
        self, host: str = "", timeout: int = 3, database: str = "", **more: Any
    ) -> psycopg.Connection[Any]:
        """A connection of the superuser; without a host through the Service NAME."""
        login = self.secret()
        return psycopg.connect(
            host=host or self.service_address(), port=5432, autocommit=True,
            **{"user": login["POSTGRES_USER"], "password": login["POSTGRES_PASSWORD"],
               "dbname": database or self.database, "connect_timeout": timeout, **more},
        )  # fmt: skip

    def sql(self, query: str, *values: Any, host: str = "") -> list[tuple[Any, ...]]:
        """Run one statement; its rows."""
        statement: Any = query  # psycopg's own type refuses what is put together
        with self.connect(host) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def show(self, setting: str, host: str = "") -> str:
        shown: str = self.sql(f"SHOW {setting}", host=host)[0][0]
        return shown

    def streaming(self) -> dict[str, str]:
        """application_name -> sync_state of every standby that streams from the primary."""
        rows = self.sql(
            "SELECT application_name, sync_state FROM pg_stat_replication WHERE state = 'streaming'"
        )
        return dict(rows)

    # Health.

    def check(self, members: int) -> dict[str, Pod]:
        """Asserts full redundancy: one primary, the others ready, labelled and streaming."""
        pods = self.pods()
        names = {f"{self.name}-{ordinal}" for ordinal in range(members)}
        assert set(pods) == names, f"pods are {sorted(pods)}"
        assert not [pod.name for pod in pods.values() if pod.deleting], "a pod is ending"
        unready = [pod.name for pod in pods.values() if not pod.ready]
        assert not unready, f"not ready: {unready}"
        roles = {pod.name: pod.role for pod in pods.values()}
        assert sorted(map(str, roles.values())) == ["primary", *["replica"] * (members - 1)], roles
        primary = next(name for name, role in roles.items() if role == "primary")
        streaming = set(self.streaming())
        assert streaming == names - {primary}, f"{sorted(streaming)} stream from {primary}"
        # kube-proxy follows a moved label within its sync period of a second.
        for _ in range(FRESH_CONNECTIONS):
            reached = self.sql("SELECT host(inet_server_addr())")[0][0]
            assert reached == pods[primary].address, f"the Service leads to {reached} as well"
        return pods

    def wait_healthy(self, members: int, seconds: float = 120.0) -> dict[str, Pod]:
        """Waits for full redundancy; what `pgha why` says is in the error if it does not come."""
        try:
            return until(
                f"{self.name} with {members} members, one primary and all others streaming",
                lambda: self.check(members), seconds, every=0.5, passing=FETCHING,
            )  # fmt: skip
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.explain()}") from None

    def wait_writable(self, seconds: float = 60.0) -> Pod:
        """Waits until the Service NAME takes a write; the primary by label."""

        def written() -> Pod:
            self.sql("CREATE TABLE IF NOT EXISTS written (at timestamptz)")
            self.sql("INSERT INTO written VALUES (now())")
            return self.primary()

        try:
            return until("a write through the Service", written, seconds, 0.3, FETCHING)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.explain()}") from None

    def explain(self) -> str:
        """What a person would look at: pods, the lease, the decisions, the last log lines."""
        parts = [
            self.kubectl("get", "pods", "-o", "wide", "--show-labels").stdout,
            self.kubectl("get", "lease", self.name, "-o", "yaml").stdout,
        ]
        for name in self.pods():
            log = self.kubectl("logs", name, "-c", "postgres", "--tail=25")
            parts.append(f"--- {name}\n{(log.stdout or log.stderr)[-3000:]}")
        return "\n".join(parts)
