"""Many clusters on one API server: does a cluster cost the same beside five hundred others?

The agents are the product's own, some clusters to a process (bench/crowd.py). Leases, pods, the
StatefulSet and its controller, rights and tokens are real. The pods are for a scheduler that does
not exist, so no kubelet runs them. Each number of clusters is measured over an idle time and over
one failover of every cluster, and everything is deleted after it, also when it is interrupted.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scrape import ETCD_METRICS, Server, read
from bench.systems import MINE, drop_leftovers
from bench.verdict import percentile
from lab.cluster import Lab
from lab.paths import REPOSITORY
from tests.support.kube import LEASES, STATEFUL_SETS, Kube
from tests.support.waiting import until

PREFIX = "bench-growth"
APP = "postgres"
PER_PROCESS = 25  # clusters
PER_NAMESPACE = 50  # clusters, unless it is said otherwise
SETTLE = 12.0  # seconds after the last cluster is whole, before anything is counted
STRIKES = 5  # failovers a second begin, all clusters together
AFTER = 10.0  # seconds after the last failover that belong to it: the old primary comes back
TOKEN_SECONDS = 4 * 3600
UP_SECONDS = 120.0  # to be whole, and
UP_PER_CLUSTER = 3.0  # more for each cluster: two cores start all of them
CROWD = "pgha-crowd-"
# Thousands of notes that are flushed each second are not this measurement's disk's.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
RBAC = "rbac.authorization.k8s.io"


@dataclass
class Process:
    """One `bench.crowd`: orders in, answers out."""

    orders: dict[str, Any]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix=CROWD, dir=MEMORY)))
    popen: subprocess.Popen[str] | None = None
    answering: threading.Lock = field(default_factory=threading.Lock)

    def start(self, environment: dict[str, str]) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "bench.crowd"], cwd=REPOSITORY, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**environment, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'operator'}"},
        )  # fmt: skip
        self._write(json.dumps({**self.orders, "folder": str(self.folder)}))

    def ask(self, command: str) -> dict[str, Any]:
        with self.answering:
            self._write(command)
            assert self.popen is not None and self.popen.stdout is not None
            line = self.popen.stdout.readline()
        assert line, f"the process of {len(self.orders['clusters'])} clusters ended: see above"
        return dict(json.loads(line))

    def _write(self, line: str) -> None:
        assert self.popen is not None and self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def end(self) -> None:
        if self.popen is not None:
            self.popen.kill()  # nothing of its agents is kept
            self.popen.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Agents:
    """What the agents of all processes have done since they started."""

    calls: Counter[str] = field(default_factory=Counter)  # requests by HTTP method
    cpu: float = 0.0
    whole: int = 0
    unwhole: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rss: int = 0


def ask_all(processes: Sequence[Process], command: str) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(len(processes)) as pool:
        try:
            return list(pool.map(lambda p: p.ask(command), processes))
        except BaseException:
            for process in processes:  # or the pool would wait for their answers
                process.end()
            raise


def look(processes: Sequence[Process]) -> Agents:
    found = Agents()
    for answer in ask_all(processes, "look"):
        found.calls.update(answer["calls"])
        found.cpu += answer["cpu"]
        found.whole += answer["whole"]
        found.unwhole += answer["unwhole"]
        found.failures += answer["failures"]
        found.rss += answer["rss"]
    return found


class Objects:
    """The API objects of the clusters. Owns their making and their end."""

    def __init__(self, kube: Kube, members: int, per_namespace: int) -> None:
        self._kube, self._members, self._per = kube, members, per_namespace

    def namespaces(self, clusters: int) -> list[str]:
        return [f"{PREFIX}-{n}" for n in range(-(-clusters // self._per))]

    def make(self, clusters: int) -> list[tuple[str, str]]:
        """(namespace, name) of each cluster."""
        for name in self.namespaces(clusters):
            self._kube.create(
                "/api/v1/namespaces", {"metadata": {"name": name, "labels": {MINE: "true"}}}
            )
        made = [(f"{PREFIX}-{n // self._per}", f"g{n:04d}") for n in range(clusters)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda where: self._cluster(*where), made))
        return made

    def _cluster(self, namespace: str, name: str) -> None:
        # What a stack makes for an agent to live on; Services and Secrets cost once.
        from components.election import role_rules  # a second of imports
        from components.naming import Names

        names = Names(name, namespace, APP)
        path, metadata = self._kube.path, {"name": name, "labels": names.labels}
        create = self._kube.create
        create(path(namespace, LEASES), {"metadata": metadata})
        create(path(namespace, "serviceaccounts"), {"metadata": metadata})
        create(path(namespace, f"{RBAC}/v1/roles"),
               {"metadata": metadata, "rules": role_rules(names)})  # fmt: skip
        create(path(namespace, f"{RBAC}/v1/rolebindings"), {
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        })  # fmt: skip
        spec = {
            # Neither scheduled nor run: the objects alone are what the agents watch and label.
            "schedulerName": "nobody",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "postgres", "image": "nothing"}],
        }
        create(path(namespace, STATEFUL_SETS), {"metadata": metadata, "spec": {
            "replicas": self._members, "serviceName": names.headless_service,
            "podManagementPolicy": "Parallel", "selector": {"matchLabels": names.selector},
            "template": {"metadata": {"labels": names.selector}, "spec": spec},
        }})  # fmt: skip

    def uids(self, namespace: str) -> dict[str, str]:
        """Pod -> UID of all pods that the controller has made."""
        pods = self._kube.list(self._kube.path(namespace, "pods"))
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}

    def token(self, namespace: str, name: str) -> str:
        """As a pod has it: of the cluster's own ServiceAccount."""
        answer = self._kube.create(
            self._kube.path(namespace, "serviceaccounts", name) + "/token",
            {"spec": {"expirationSeconds": TOKEN_SECONDS}},
        )
        return str(answer["status"]["token"])


def api_server(kubeconfig: Path) -> tuple[str, str]:
    """URL and CA (PEM) of a kubeconfig."""
    import base64

    import yaml

    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    given = cluster.get("certificate-authority-data")
    pem = base64.b64decode(given) if given else (
        kubeconfig.parent / cluster["certificate-authority"]
    ).read_bytes()  # fmt: skip
    return str(cluster["server"]), pem.decode()


def server_now(kube: Kube) -> Server:
    def etcd() -> str:
        with urllib.request.urlopen(ETCD_METRICS, timeout=10) as answer:
            return str(answer.read().decode())

    return read(lambda: kube.text("/metrics"), etcd)


@contextlib.contextmanager
def standing(
    lab: Lab, kube: Kube, clusters: int, members: int, per_namespace: int, folder: Path
) -> Iterator[list[Process]]:
    """All clusters whole, as long as the block runs; nothing is left of them after it."""
    objects = Objects(kube, members, per_namespace)
    namespaces = objects.namespaces(clusters)
    processes: list[Process] = []
    seconds = UP_SECONDS + UP_PER_CLUSTER * clusters
    drop_leftovers(kube, namespaces, seconds)
    try:
        made = objects.make(clusters)
        uids: dict[tuple[str, str], str] = {}

        def all_there() -> bool:
            for namespace in namespaces:
                uids.update({(namespace, n): u for n, u in objects.uids(namespace).items()})
            return len(uids) == clusters * members

        until(f"{clusters * members} pods", all_there, seconds, 1.0)
        with ThreadPoolExecutor(8) as pool:
            tokens = list(pool.map(lambda where: objects.token(*where), made))
        url, pem = api_server(lab.kubeconfig)
        ca = folder / "ca.crt"
        ca.write_text(pem)
        for first in range(0, clusters, PER_PROCESS):
            part = range(first, min(first + PER_PROCESS, clusters))
            processes.append(Process({
                "url": url, "ca": str(ca), "members": members,
                "clusters": [settings(*made[n]) for n in part],
                "tokens": [tokens[n] for n in part],
                "uids": [[uids[made[n][0], f"{made[n][1]}-{i}"] for i in range(members)]
                         for n in part],
            }))  # fmt: skip
            processes[-1].start(lab.env())

        def whole() -> bool:
            seen = look(processes)
            assert not seen.failures, f"agents ended: {seen.failures}"
            assert seen.whole == clusters, f"{seen.whole} of {clusters}; {seen.unwhole}"
            return True

        until(f"{clusters} clusters with one primary and all others streaming", whole, seconds, 1.0)
        yield processes
    finally:
        for process in processes:
            process.end()
        drop_leftovers(kube, namespaces, seconds)


def settings(namespace: str, name: str) -> dict[str, Any]:
    """settings.json with the defaults of the config, and Hot."""
    return {
        "name": name, "namespace": namespace, "appName": APP, "version": "17",
        "standbyMode": "Hot",
    }  # fmt: skip


def row(
    clusters: int, members: int, seconds: float, quiet: Server, server: Server, before: Agents,
    after: Agents, struck: Agents, failing: float, outages: Sequence[float | None],
    stored: float,
) -> dict[str, Any]:
    """The figures of one number of clusters, each for one cluster. `quiet` is what the server did
    for everybody else in the same time; `failing` is how long the failovers took in all."""

    def minute(count: float) -> float:
        return count * 60 / seconds / clusters

    idle = after.calls - before.calls
    all_verbs = sorted(idle | (struck.calls - after.calls) | Counter(server.writes))
    took = [o for o in outages if o is not None]
    # What an idle cluster would have asked for in that time is no part of a failover.
    share = failing / seconds
    failover = {
        verb: max(0.0, struck.calls[verb] - after.calls[verb] - share * idle[verb]) / clusters
        for verb in all_verbs
    }
    return {
        "clusters": clusters,
        "members of each": members,
        "requests a minute": {v: minute(idle[v]) for v in all_verbs if idle[v]},
        "writes a minute at the server": {
            v: minute(server.writes[v] - quiet.writes.get(v, 0.0)) for v in sorted(server.writes)
            if server.writes[v] > quiet.writes.get(v, 0.0)
        },
        "etcd bytes a minute": minute(server.put_bytes - quiet.put_bytes),
        "etcd puts a minute": minute(server.puts - quiet.puts),
        "etcd bytes stored": stored / clusters,
        "agents % of a core": 100 * (after.cpu - before.cpu) / seconds / clusters,
        "API server % of a core": 100 * (server.api_cpu - quiet.api_cpu) / seconds / clusters,
        "etcd % of a core": 100 * (server.etcd_cpu - quiet.etcd_cpu) / seconds / clusters,
        "failover requests": {v: n for v, n in failover.items() if n},
        "failover s": percentile(took, 0.5),
        "failover s, max": max(took, default=0.0),
        "not failed over": len(outages) - len(took),
        "load average": float(Path("/proc/loadavg").read_text().split()[0]),
    }


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def quiet(kube: Kube, seconds: float) -> Server:
    """What the server does in that time without any of these clusters. Asked once, before the
    first: the end of a namespace keeps the controllers busy for long."""
    drop_leftovers(kube)
    before = server_now(kube)
    wait(seconds)
    return server_now(kube).since(before)


def measure(
    lab: Lab, kube: Kube, clusters: int, members: int, per_namespace: int, seconds: float,
    others: Server, folder: Path,
) -> dict[str, Any]:
    """One number of clusters: an idle time, and one failover of each. `others` is `quiet`."""
    empty = server_now(kube)
    with standing(lab, kube, clusters, members, per_namespace, folder) as processes:
        wait(SETTLE)
        before, then = look(processes), server_now(kube)
        started = time.monotonic()
        wait(seconds)
        after, now = look(processes), server_now(kube)
        took = time.monotonic() - started
        began = time.monotonic()
        answers = ask_all(processes, f"strike {max(2.0, clusters / STRIKES)}")
        wait(AFTER)
        struck = look(processes)
        failing = time.monotonic() - began
        outages = [o for answer in answers for o in answer["outages"]]
        return {
            **row(clusters, members, took, others, now.since(then), before, after,
                  struck, failing, outages, then.in_use - empty.in_use),
            "whole after it": struck.whole,
            "clusters a namespace": min(per_namespace, clusters),
            "MB of all processes": after.rss / 1e6,
        }  # fmt: skip


def lines(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A table: a line of each number of clusters, all figures for one cluster."""
    verbs = sorted({v for r in rows for v in r["requests a minute"]})
    asked = sorted({v for r in rows for v in r["failover requests"]})
    head = [
        "clusters", *(f"{v}/min" for v in verbs), "etcd puts/min", "etcd KB/min",
        "etcd KB stored", "agents % core", "API % core", "etcd % core",
        *(f"{v}/failover" for v in asked), "failover s", "max", "load",
    ]  # fmt: skip
    made = []
    for r in rows:
        made.append([
            str(r["clusters"]), *(f"{r['requests a minute'].get(v, 0):.1f}" for v in verbs),
            f"{r['etcd puts a minute']:.1f}", f"{r['etcd bytes a minute'] / 1e3:.1f}",
            f"{r['etcd bytes stored'] / 1e3:.0f}",
            *(f"{r[k]:.2f}" for k in ("agents % of a core", "API server % of a core",
                                      "etcd % of a core")),
            *(f"{r['failover requests'].get(v, 0):.1f}" for v in asked),
            f"{r['failover s']:.2f}", f"{r['failover s, max']:.2f}", f"{r['load average']:.1f}",
        ])  # fmt: skip
    return head, made

