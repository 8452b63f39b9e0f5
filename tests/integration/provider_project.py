"""A Pulumi project whose resources a test writes down as data. Owns its folder and its backend.

The program is the same for all tests: it declares what `resources.json` lists, with the SDK that
every program uses, so that what is tested is the engine, the SDK and the provider together.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import pulumi_engine
from tests.support.waiting import until

PROGRAM = """
import json
import pulumi
import pulumi_kubernetes as kubernetes

made = {}
for each in json.load(open("resources.json")):
    kind = kubernetes
    for part in each["type"].split("."):
        kind = getattr(kind, part)
    options = dict(each.get("options", {}))
    if "custom_timeouts" in options:
        options["custom_timeouts"] = pulumi.CustomTimeouts(**options["custom_timeouts"])
    args = each["args"]
    for key, name in each.get("uids", {}).items():
        args["data"][key] = made[name].metadata.uid
    made[each["name"]] = kind(each["name"], **args, opts=pulumi.ResourceOptions(**options))
for name, resource in made.items():
    pulumi.export(name, resource.metadata.name)
"""
COMMAND_SECONDS = 180.0


@dataclass(frozen=True)
class Answer:
    """What a run of the CLI ended with."""

    status: int
    text: str

    def __bool__(self) -> bool:
        return self.status == 0


class Project:
    """One project folder with one stack."""

    def __init__(self, cache: Path, kubeconfig: Path, folder: Path) -> None:
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        (folder / "Pulumi.yaml").write_text(
            json.dumps({"name": "objects", "runtime": {"name": "python", "options": {
                "toolchain": "pip", "virtualenv": str(cache / "venv")}}})
        )  # fmt: skip
        (folder / "__main__.py").write_text(PROGRAM)
        self.environment = {
            **os.environ,
            **pulumi_engine.environment(cache),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "KUBECONFIG": str(kubeconfig),
            "NO_COLOR": "1",
        }
        self.declare()
        made = self.run("stack", "init", "test")
        assert made, made.text

    def declare(self, *resources: dict[str, Any]) -> None:
        (self.folder / "resources.json").write_text(json.dumps(resources))

    def run(self, *arguments: str, **environment: str) -> Answer:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"], cwd=self.folder, text=True,
            env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_SECONDS,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout)

    def up(self, *arguments: str) -> str:
        answer = self.run("up", "--yes", "--skip-preview", *arguments)
        assert answer, answer.text
        return answer.text

    def up_fails(self, *arguments: str, **environment: str) -> str:
        answer = self.run("up", "--yes", "--skip-preview", *arguments, **environment)
        assert not answer, answer.text
        return answer.text

    def up_interrupted(self, seen: Callable[[], object]) -> str:
        """`pulumi up`, interrupted as by Ctrl-C once something is seen."""
        with subprocess.Popen(
            ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive"], cwd=self.folder,
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                until("what the run is interrupted at", seen, 60, 0.2)
            finally:
                process.send_signal(signal.SIGINT)
                text, _ = process.communicate(timeout=60)
        assert process.returncode != 0, text
        return text

    def drift(self) -> str:
        """What a refreshing preview finds; empty if nothing."""
        answer = self.run("preview", "--refresh", "--expect-no-changes", "--diff")
        return "" if answer else answer.text

    def destroy(self) -> str:
        answer = self.run("destroy", "--yes", "--skip-preview")
        assert answer, answer.text
        return answer.text

    def state(self, name: str) -> dict[str, Any]:
        """The exported state of a resource, secrets still encrypted."""
        answer = self.run("stack", "export")
        for resource in json.loads(answer.text)["deployment"]["resources"]:
            if resource["urn"].endswith(f"::{name}"):
                return dict(resource)
        raise KeyError(name)

    def names(self) -> dict[str, str]:
        """The name that each object got in the cluster."""
        return dict(json.loads(self.run("stack", "output", "--json").text))
