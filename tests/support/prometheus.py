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
    file_sd_configs:
      - files: [{targets}]
        refresh_interval: 1s
"""


def targets_of(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the pods' annotations say: Debian's Prometheus comes without discovery by Kubernetes."""
    found = []
    for pod in pods:
        notes = pod["metadata"].get("annotations") or {}
        if notes.get("prometheus.io/scrape") == "true":
            address = f"{pod['status']['podIP']}:{notes['prometheus.io/port']}"
            labels = {"__metrics_path__": notes["prometheus.io/path"]}
            found.append({"targets": [address], "labels": labels})
    return found


@contextlib.contextmanager
def running_prometheus(lab: Lab, pods: list[dict[str, Any]], folder: Path) -> Iterator[Query]:
    """Prometheus in the lab's network as long as the block runs; the value queries it."""
    if shutil.which("prometheus") is None:
        install_packages(["prometheus"])
    config = folder / "prometheus.yml"
    targets = folder / "targets.json"
    targets.write_text(json.dumps(targets_of(pods)))
    config.write_text(CONFIG.format(targets=targets))
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
