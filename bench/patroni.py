"""Patroni as its documentation sets it up on Kubernetes, three members. Owns its manifests.

As its example does: leader election and the Service by Endpoints, the API bypassing the Service,
use_pg_rewind, data checksums. Two sets of timings: its defaults, and the minimum that its
documentation names for ttl, loop_wait and retry_timeout. What differs from the example, each in
Patroni's favour or to compare alike: claims of the lab's storage class in place of emptyDir, a
grace period of 30 s (the example's 0 would kill PostgreSQL on each deletion), readiness
each second, and a headless Service that gives the members stable names for the multi-host DSN.
"""

from __future__ import annotations

import json
import secrets
import urllib.request
from typing import Any

import yaml

from bench import patroni_image
from bench.systems import (
    DOMAIN,
    MEMBERS,
    System,
    Watched,
    conninfo,
    drop_leftovers,
    make_namespace,
    pods_watched,
    slices_watched,
    two_ways,
)
from lab.cluster import Lab
from lab.images import versions
from tests.support.kube import Kube

DEFAULTS: dict[str, int] = {}
MINIMUM = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}
DATA = "/home/postgres/pgdata"


class Patroni(System):
    """`timings`: what of ttl, loop_wait and retry_timeout is not left at its default."""

    agent, postmaster = "-m patroni", "--config-file="

    def __init__(self, lab: Lab, kube: Kube, name: str, timings: dict[str, int]) -> None:
        super().__init__(lab, kube, name)
        self._timings = timings
        self._password = secrets.token_hex(12)
        self._labels = {"application": "patroni", "cluster-name": name}
        self._address = ""

    def up(self) -> None:
        patroni_image.load(self.lab)
        make_namespace(self.kube, self.namespace)
        for resource, body in self._manifests():
            group, _, kind = resource.rpartition("/")
            cluster_wide = kind.startswith("cluster")
            path = f"/apis/{group}/{kind}" if cluster_wide else self._path(resource)
            self.kube.create(path, body)
        service = self.kube.get(self._path("services", self.name))
        assert service is not None
        self._address = str(service["spec"]["clusterIP"])

    def down(self) -> None:
        for kind in ("clusterrolebindings", "clusterroles"):
            self.kube.delete(f"/apis/rbac.authorization.k8s.io/v1/{kind}/{self.namespace}")
        drop_leftovers(self.kube, [self.namespace])

    def ways(self) -> dict[str, list[str]]:
        common = conninfo(user="postgres", password=self._password, dbname="postgres")
        members = [
            f"{self.name}-{n}.{self.name}-pods.{self.namespace}.svc{DOMAIN}"
            for n in range(MEMBERS)
        ]
        return two_ways(self._address, [self._address, *members], common)

    def check(self) -> str:
        pods = self.pods()
        assert len(pods) == MEMBERS, f"pods are {sorted(pods)}"
        unready = [p.name for p in pods.values() if not p.ready or p.deleting]
        assert not unready, f"not ready: {unready}"
        found = self.kube.get(self._path("endpoints", self.name)) or {}
        leader = ((found.get("metadata") or {}).get("annotations") or {}).get("leader", "")
        assert leader in pods, f"the leader is {leader!r}"
        with self.connect() as connection:
            reached = connection.execute("SELECT host(inet_server_addr())").fetchone()
            assert reached == (pods[leader].address,), f"the Service leads to {reached}"
            streaming = {
                name
                for (name,) in connection.execute(
                    "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
                )
            }
        assert streaming == set(pods) - {leader}, f"{sorted(streaming)} stream from {leader}"
        return str(leader)

    def switchover(self, primary: str) -> None:
        """What patronictl asks of the leader."""
        request = urllib.request.Request(
            f"http://{self.pods()[primary].address}:8008/switchover",
            json.dumps({"leader": primary}).encode(), {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    def watched(self) -> list[Watched]:
        def leader(endpoints: dict[str, Any]) -> str:
            return str((endpoints["metadata"].get("annotations") or {}).get("leader", ""))

        query = {"fieldSelector": f"metadata.name={self.name}"}
        return [
            Watched("acquire", self._path("endpoints"), query, leader),
            pods_watched(self.kube, self.namespace, "role"),
            slices_watched(self.kube, self.namespace, self.name),
        ]

    def _path(self, resource: str, name: str = "") -> str:
        return self.kube.path(self.namespace, resource, name)

    # What is declared.

    def _config(self) -> str:
        dcs: dict[str, Any] = {
            **self._timings,
            "postgresql": {
                "use_pg_rewind": True,
                "pg_hba": [
                    "host all all 0.0.0.0/0 md5",
                    "host replication standby 0.0.0.0/0 md5",
                ],
            },
        }
        initdb: list[Any] = [
            {"auth-host": "md5"}, {"auth-local": "trust"}, {"encoding": "UTF8"},
            {"locale": "C.UTF-8"}, "data-checksums",
        ]  # fmt: skip
        return yaml.safe_dump({"bootstrap": {"dcs": dcs, "initdb": initdb}})

    def _manifests(self) -> list[tuple[str, dict[str, Any]]]:
        name, meta = self.name, {"name": self.name, "labels": self._labels}
        rbac = "rbac.authorization.k8s.io/v1"
        every = ["create", "get", "list", "patch", "update", "watch", "delete", "deletecollection"]
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}

        def binding(role: str, of: str) -> dict[str, Any]:
            return {
                "roleRef": {"apiGroup": rbac.partition("/")[0], "kind": role, "name": of},
                "subjects": [subject],
            }

        def headless(suffix: str, **spec: Any) -> dict[str, Any]:
            return {
                "metadata": {"name": name + suffix, "labels": self._labels},
                "spec": {"clusterIP": "None", **spec},
            }

        return [
            ("secrets", {"metadata": meta, "stringData": {
                "superuser-password": self._password,
                "replication-password": secrets.token_hex(12)}}),
            ("configmaps", {"metadata": {"name": f"{name}-file"},
                            "data": {"patroni.yml": self._config()}}),
            ("serviceaccounts", {"metadata": meta}),
            (f"{rbac}/roles", {"metadata": meta, "rules": [
                {"apiGroups": [""], "resources": ["configmaps", "endpoints"], "verbs": every},
                {"apiGroups": [""], "resources": ["pods"],
                 "verbs": ["get", "list", "patch", "update", "watch"]},
                {"apiGroups": [""], "resources": ["services"], "verbs": ["create"]}]}),
            (f"{rbac}/rolebindings", {"metadata": meta, **binding("Role", name)}),
            (f"{rbac}/clusterroles", {"metadata": {"name": self.namespace}, "rules": [
                {"apiGroups": [""], "resources": ["endpoints"], "resourceNames": ["kubernetes"],
                 "verbs": ["get"]}]}),
            (f"{rbac}/clusterrolebindings", {
                "metadata": {"name": self.namespace}, **binding("ClusterRole", self.namespace)}),
            ("endpoints", {"metadata": meta, "subsets": []}),
            ("services", {"metadata": meta, "spec": {"ports": [{"port": 5432}]}}),
            ("services", headless("-config")),
            ("services", headless("-pods", selector=self._labels, publishNotReadyAddresses=True)),
            ("apps/v1/statefulsets", self._stateful_set(meta)),
        ]  # fmt: skip

    def _stateful_set(self, meta: dict[str, Any]) -> dict[str, Any]:
        claim = {
            "metadata": {"name": "pgdata"},
            "spec": {"accessModes": ["ReadWriteOnce"],
                     "resources": {"requests": {"storage": "1Gi"}}},
        }  # fmt: skip
        return {
            "metadata": meta,
            "spec": {
                "replicas": MEMBERS,
                "serviceName": f"{self.name}-pods",
                "selector": {"matchLabels": self._labels},
                "template": {"metadata": {"labels": self._labels}, "spec": self._pod()},
                "volumeClaimTemplates": [claim],
            },
        }

    def _pod(self) -> dict[str, Any]:
        def field(path: str) -> dict[str, Any]:
            return {"valueFrom": {"fieldRef": {"fieldPath": path}}}

        def secret(key: str) -> dict[str, Any]:
            return {"valueFrom": {"secretKeyRef": {"name": self.name, "key": key}}}

        env: dict[str, dict[str, Any]] = {
            "PATRONI_KUBERNETES_POD_IP": field("status.podIP"),
            "PATRONI_KUBERNETES_NAMESPACE": field("metadata.namespace"),
            "PATRONI_KUBERNETES_BYPASS_API_SERVICE": {"value": "true"},
            "PATRONI_KUBERNETES_USE_ENDPOINTS": {"value": "true"},
            "PATRONI_KUBERNETES_LABELS": {"value": json.dumps(self._labels)},
            "PATRONI_SUPERUSER_USERNAME": {"value": "postgres"},
            "PATRONI_SUPERUSER_PASSWORD": secret("superuser-password"),
            "PATRONI_REPLICATION_USERNAME": {"value": "standby"},
            "PATRONI_REPLICATION_PASSWORD": secret("replication-password"),
            "PATRONI_SCOPE": {"value": self.name},
            "PATRONI_NAME": field("metadata.name"),
            "PATRONI_POSTGRESQL_DATA_DIR": {"value": f"{DATA}/pgroot/data"},
            "PATRONI_POSTGRESQL_PGPASS": {"value": "/tmp/pgpass"},
            "PATRONI_POSTGRESQL_LISTEN": {"value": "0.0.0.0:5432"},
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": {"value": "$(PATRONI_KUBERNETES_POD_IP):5432"},
            "PATRONI_RESTAPI_LISTEN": {"value": "0.0.0.0:8008"},
            "PATRONI_RESTAPI_CONNECT_ADDRESS": {"value": "$(PATRONI_KUBERNETES_POD_IP):8008"},
            "HOME": {"value": "/tmp"},
        }
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        program = {"name": "program", "mountPath": "/program"}
        return {
            "serviceAccountName": self.name,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [{
                "name": "patroni", "image": patroni_image.TAG, "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/cp", "-a", "/patroni/.", "/program/"],
                "securityContext": security, "volumeMounts": [program],
            }],
            "containers": [{
                "name": self.container,
                "image": f"docker.io/library/postgres:{versions()['17']}",
                "imagePullPolicy": "IfNotPresent",
                "command": ["/program/bin/patroni", "/etc/patroni/patroni.yml"],
                "env": [{"name": key, **value} for key, value in env.items()],
                "ports": [{"containerPort": 8008}, {"containerPort": 5432}],
                "readinessProbe": {
                    "httpGet": {"path": "/readiness", "port": 8008}, "periodSeconds": 1,
                    "timeoutSeconds": 5,
                },
                "securityContext": security,
                "volumeMounts": [
                    {"name": "pgdata", "mountPath": DATA},
                    {"name": "config", "mountPath": "/etc/patroni"},
                    {**program, "readOnly": True},
                ],
            }],
            "volumes": [
                {"name": "program", "emptyDir": {}},
                {"name": "config", "configMap": {"name": f"{self.name}-file"}},
            ],
        }  # fmt: skip
