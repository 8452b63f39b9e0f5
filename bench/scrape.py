"""Numbers of the API server's and etcd's own metrics. Owns their names; asks, and changes nothing.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

REQUESTS = "apiserver_request_total"
CPU = "process_cpu_seconds_total"
ETCD_IN_USE = "etcd_mvcc_db_total_size_in_use_in_bytes"
ETCD_PUT = "etcd_debugging_mvcc_total_put_size_in_bytes"
ETCD_PUTS = "etcd_mvcc_put_total"
ETCD_METRICS = "http://127.0.0.1:2379/metrics"  # inside the lab's network
# What a request is for: everything else is read once, or by a watch.
WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")


def samples(text: str, name: str) -> list[tuple[Mapping[str, str], float]]:
    """Labels and value of every sample of that very name."""
    found: list[tuple[Mapping[str, str], float]] = []
    for line in text.splitlines():
        if line.startswith(name) and (match := _LINE.fullmatch(line)) and match[1] == name:
            found.append((dict(_LABEL.findall(match[2] or "")), float(match[3])))
    return found


def total(text: str, name: str) -> float:
    """The sum over all label values; raises ValueError if there is no such metric."""
    values = [value for _, value in samples(text, name)]
    if not values:
        raise ValueError(f"there is no metric {name}: is this the version that was looked at?")
    return sum(values)


@dataclass(frozen=True)
class Server:
    """What the API server and etcd have done since they started."""

    writes: Mapping[str, float] = field(default_factory=dict)  # by verb
    api_cpu: float = 0.0  # seconds
    etcd_cpu: float = 0.0
    put_bytes: float = 0.0  # keys and values that etcd was given
    puts: float = 0.0
    in_use: float = 0.0  # bytes of etcd's file that hold something, history included

    def since(self, before: Server) -> Server:
        """What was done after `before`; `in_use` is the growth."""
        verbs = {v: n - before.writes.get(v, 0.0) for v, n in self.writes.items()}
        return Server(
            verbs, self.api_cpu - before.api_cpu, self.etcd_cpu - before.etcd_cpu,
            self.put_bytes - before.put_bytes, self.puts - before.puts,
            self.in_use - before.in_use,
        )  # fmt: skip


def read(api: Callable[[], str], etcd: Callable[[], str]) -> Server:
    """Both pages of metrics, as they are now."""
    page, store = api(), etcd()
    writes: dict[str, float] = {}
    for labels, value in samples(page, REQUESTS):
        if labels["verb"] in WRITES:
            writes[labels["verb"]] = writes.get(labels["verb"], 0.0) + value
    return Server(
        writes, total(page, CPU), total(store, CPU), total(store, ETCD_PUT),
        total(store, ETCD_PUTS), total(store, ETCD_IN_USE),
    )  # fmt: skip
