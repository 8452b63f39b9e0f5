"""A real Prometheus of the machine's, scraping by the pods' annotations. Owns its process."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.cluster import Lab
from lab.requirements import install_packages

PORT = 19090
Query = Callable[[str], list[tuple[dict[str, str], str]]]

CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: pods
    kubernetes_sd_configs:
      - role: pod
        kubeconfig_file: {kubeconfig}
        namespaces: {{names: [{namespace}]}}
    relabel_configs:
      - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape]
        regex: "true"
        action: keep
      - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path]
        regex: (.+)
        target_label: __metrics_path__
      - source_labels: [__meta_kubernetes_pod_ip, __meta_kubernetes_pod_annotation_prometheus_io_port]
        separator: ":"
        target_label: __address__
      # A target for each container port would scrape each pod several times.
      - source_labels: [__meta_kubernetes_pod_container_port_number]
        regex: "8008"
        action: keep
"""  # noqa: E501 - a line of Prometheus's configuration


@contextlib.contextmanager
def running_prometheus(lab: Lab, namespace: str, folder: Path) -> Iterator[Query]:
    """Prometheus in the lab's network as long as the block runs; the value queries it."""
    if shutil.which("prometheus") is None:
        install_packages(["prometheus"])
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(kubeconfig=lab.kubeconfig, namespace=namespace))
    log = (folder / "prometheus.log").open("w")
    process = subprocess.Popen(
        [*lab.exec_prefix(), "prometheus", f"--config.file={config}",
         f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{PORT}"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip

    def query(expression: str) -> list[tuple[dict[str, str], str]]:
        if process.poll() is not None:
            raise RuntimeError(f"Prometheus ended: {Path(log.name).read_text()[-1000:]}")
        url = f"http://127.0.0.1:{PORT}/api/v1/query?" + urllib.parse.urlencode(
            {"query": expression}
        )
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return [(each["metric"], each["value"][1]) for each in found["data"]["result"]]

    try:
        yield query
    finally:
        process.terminate()
        process.wait(10)
        log.close()
