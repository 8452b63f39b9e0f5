"""What is measured, each system behind the same few questions. Owns the ways in and the clusters
of this project; Patroni's is in bench/patroni.py. Strikes nothing.

Both run three members of the same PostgreSQL image on the same storage class, in a namespace that
bears this benchmark's own label, so that no other run removes it.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from lab.cluster import Lab
from lab.images import versions
from tests.support.kube import LEASES, SLICES, Kube
from tests.support.namespaces import RESTRICTED, drop_namespace
from tests.support.postgres import FETCHING, Cluster, Pod
from tests.support.program import Program, Stack
from tests.support.waiting import until

MINE = "pgha.dev/made-by-bench"
MEMBERS = 3
HEALTHY_SECONDS = 180.0
SERVICE, DSN = "service", "dsn"
WAYS = (SERVICE, DSN)
# Names are looked up once: the search list of the resolver is no part of what is measured.
DOMAIN = ".cluster.local."


@dataclass(frozen=True)
class Watched:
    """A list of objects to watch during a trial, and what of an object is worth a line."""

    what: str
    path: str
    query: dict[str, str]
    shown: Callable[[dict[str, Any]], str]


class System(ABC):
    """One cluster of three members, up between `up` and `down`."""

    # Titles by which the processes of a member are found, the first match first.
    agent: str
    postmaster: str
    container = "postgres"

    def __init__(self, lab: Lab, kube: Kube, name: str) -> None:
        self.lab, self.kube, self.name = lab, kube, name
        self.namespace = f"bench-{name}"

    @abstractmethod
    def up(self) -> None: ...

    @abstractmethod
    def down(self) -> None: ...

    @abstractmethod
    def ways(self) -> dict[str, list[str]]:
        """Way in -> a conninfo for each host, tried in turn."""

    @abstractmethod
    def check(self) -> str:
        """Asserts full redundancy; the name of the primary's pod."""

    @abstractmethod
    def switchover(self, primary: str) -> None: ...

    @abstractmethod
    def watched(self) -> list[Watched]: ...

    def wait_healthy(self) -> str:
        what = f"{self.name} with {MEMBERS} members, one primary and all others streaming"
        return until(what, self.check, HEALTHY_SECONDS, 0.3, FETCHING)

    def connect(self) -> psycopg.Connection[Any]:
        """Through the Service."""
        found: psycopg.Connection[Any] = psycopg.connect(
            self.ways()[SERVICE][0], autocommit=True, connect_timeout=3
        )
        return found

    def pods(self) -> dict[str, Pod]:
        found = map(Pod.of, self.kube.list(self.kube.path(self.namespace, "pods")))
        return {pod.name: pod for pod in found}


def make_namespace(kube: Kube, name: str) -> None:
    labels = {MINE: "true", RESTRICTED: "restricted"}
    kube.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    path = kube.path(name, "serviceaccounts", "default")
    until(f"the default ServiceAccount of {name}", lambda: kube.get(path), 20, 0.1)


def drop_leftovers(kube: Kube, names: list[str] | None = None, seconds: float = 120) -> None:
    """Remove namespaces of this benchmark, of a killed run too, and wait until they are gone."""

    def left() -> list[str]:
        found = kube.list("/api/v1/namespaces", labelSelector=f"{MINE}=true")
        every = [n["metadata"]["name"] for n in found]
        return every if names is None else [n for n in every if n in names]

    for name in left():
        drop_namespace(kube, name)
    until("the benchmark's namespaces gone", lambda: not left(), seconds, 0.5)


def pods_watched(kube: Kube, namespace: str, role: str) -> Watched:
    def shown(pod: dict[str, Any]) -> str:
        return str((pod["metadata"].get("labels") or {}).get(role, ""))

    return Watched("label", kube.path(namespace, "pods"), {}, shown)


def slices_watched(kube: Kube, namespace: str, service: str) -> Watched:
    def shown(found: dict[str, Any]) -> str:
        return ",".join(
            sorted(
                address
                for endpoint in found.get("endpoints") or []
                if (endpoint.get("conditions") or {}).get("ready") is not False
                for address in endpoint["addresses"]
            )
        )

    query = {"labelSelector": f"kubernetes.io/service-name={service}"}
    return Watched("endpoint", kube.path(namespace, SLICES), query, shown)


class Pgha(System):
    """This project: a stack of the Pulumi program."""

    agent, postmaster = "-m pgha agent", "config_file"

    def __init__(
        self, lab: Lab, kube: Kube, name: str = "pgha", config: dict[str, Any] | None = None
    ) -> None:
        super().__init__(lab, kube, name)
        self._folder = tempfile.TemporaryDirectory(prefix="pgha-bench-")
        self._config: dict[str, Any] = {
            "name": name,
            "namespace": self.namespace,
            "version": versions()["17"],
            "replicas": MEMBERS,
            "standbyMode": "Hot",
            "storage": {"resources": {"requests": {"storage": "1Gi"}}},
            "deletionPolicy": "WipeOut",
            **(config or {}),
        }
        self.cluster = Cluster(lab, kube, self.namespace, name)
        self._ways: dict[str, list[str]] = {}

    def up(self) -> None:
        make_namespace(self.kube, self.namespace)
        folder = Path(self._folder.name)
        stack = Program(self.lab, folder / "program", folder / "state").stack(
            f"bench-{self.name}", self._config
        )
        stack.up()
        self._ways = self._read_ways(stack)

    def down(self) -> None:
        drop_leftovers(self.kube, [self.namespace])
        self._folder.cleanup()

    def _read_ways(self, stack: Stack) -> dict[str, list[str]]:
        """The multi-host DSN as the stack's outputs give it, a host at a time."""
        given = urlsplit(stack.outputs(secrets=True)["dsnWrite"])
        login, _, hosts = given.netloc.rpartition("@")
        user, _, password = login.partition(":")
        common = conninfo(
            user=unquote(user), password=unquote(password), dbname=given.path.removeprefix("/")
        )
        names = [host.partition(":")[0] + DOMAIN for host in hosts.split(",")]
        return two_ways(self.cluster.service_address(), names, common)

    def ways(self) -> dict[str, list[str]]:
        return self._ways

    def check(self) -> str:
        self.cluster.check(MEMBERS)
        return self.cluster.primary().name

    def switchover(self, primary: str) -> None:
        self.cluster.pgha("switchover", pod=primary)

    def watched(self) -> list[Watched]:
        def holder(lease: dict[str, Any]) -> str:
            return str((lease.get("spec") or {}).get("holderIdentity") or "")

        query = {"fieldSelector": f"metadata.name={self.name}"}
        return [
            Watched("acquire", self.kube.path(self.namespace, LEASES), query, holder),
            pods_watched(self.kube, self.namespace, "kubedb.com/role"),
            slices_watched(self.kube, self.namespace, self.name),
        ]


def two_ways(service: str, hosts: Sequence[str], common: str) -> dict[str, list[str]]:
    """The conninfos of each way in; the hosts of the DSN are tried in turn."""
    return {
        SERVICE: [f"host={service} {common}"],
        DSN: [f"host={host} target_session_attrs=read-write {common}" for host in hosts],
    }


def conninfo(**settings: str) -> str:
    """The settings that both systems' clients share, and these; TLS would be part of neither."""
    common = {"port": "5432", "sslmode": "disable", "gssencmode": "disable",
              "tcp_user_timeout": "5000"}  # fmt: skip
    return " ".join(f"{key}='{value}'" for key, value in {**common, **settings}.items())
