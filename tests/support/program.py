"""The real Pulumi program under the real engine. Owns a project folder and a backend for tests.

The project folder is a copy of Pulumi.yaml and __main__.py with a link to components/, because
`pulumi` writes a stack's file beside the program and a test must leave the checkout as it was.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.cluster import Lab
from lab.paths import REPOSITORY
from tests.support.waiting import until

COMMAND_SECONDS = 420.0


@dataclass(frozen=True)
class Answer:
    """What a run of the CLI ended with."""

    status: int
    text: str

    def __bool__(self) -> bool:
        return self.status == 0


class Program:
    """A project folder; makes stacks."""

    def __init__(self, lab: Lab, folder: Path, backend: Path) -> None:
        self.folder = folder
        self.lab = lab
        backend.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **lab.env(),
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            # A colon in an answer is easier to find without colours around it.
            "NO_COLOR": "1",
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("Pulumi.yaml", "__main__.py"):
            shutil.copy(REPOSITORY / name, folder / name)
        (folder / "components").symlink_to(REPOSITORY / "components")

    def stack(self, name: str, config: Mapping[str, Any]) -> Stack:
        """A new stack with this config (keys as a user writes them, without the project)."""
        made = Stack(self, name, dict(config))
        made.write()
        init = made.pulumi("stack", "init", "--no-select")
        assert init, f"pulumi stack init {name}: {init.text}"
        return made

    def seed_stack(self, name: str, called: str = "", **changes: Any) -> Stack:
        """A stack with the config that the repository's own file of that name gives it. `called`:
        another name for the stack, where that one stands already."""
        given = yaml.safe_load((REPOSITORY / f"Pulumi.{name}.yaml").read_text())
        config = {key.removeprefix("pgha:"): value for key, value in given["config"].items()}
        return self.stack(called or name, {**config, **changes})


@dataclass
class Stack:
    """One stack of the program, driven by the CLI alone."""

    program: Program
    name: str
    config: dict[str, Any]
    extra_environment: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.program.folder / f"Pulumi.{self.name}.yaml"

    def write(self) -> None:
        """Write the config as `pulumi config set` would, keeping the engine's own lines."""
        kept: dict[str, Any] = {}
        if self.file.exists():
            kept = yaml.safe_load(self.file.read_text()) or {}
        kept["config"] = {f"pgha:{key}": value for key, value in self.config.items()}
        self.file.write_text(yaml.safe_dump(kept, sort_keys=False))

    def set(self, **changes: Any) -> None:
        """Change config keys; None removes one."""
        for key, value in changes.items():
            if value is None:
                self.config.pop(key, None)
            else:
                self.config[key] = value
        self.write()

    def pulumi(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> Answer:
        """Run the CLI against this stack, as a script does: no prompt, no colours."""
        command = [
            *self.program.lab.exec_prefix(), "pulumi", *arguments,
            "--stack", self.name, "--non-interactive", "--color", "never",
        ]  # fmt: skip
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=self.program.folder, stdin=subprocess.DEVNULL, text=True,
            env={**self.program.environment, **self.extra_environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
        )  # fmt: skip
        print(f"pulumi {arguments[0]} of {self.name}: {time.monotonic() - started:.1f} s")
        return Answer(done.returncode, done.stdout)

    def up(self, *arguments: str) -> Answer:
        """`pulumi up`, which must succeed."""
        answer = self.try_up(*arguments)
        assert answer, f"pulumi up of {self.name} failed:\n{answer.text[-6000:]}"
        return answer

    def try_up(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> Answer:
        return self.pulumi("up", "--yes", "--skip-preview", *arguments, seconds=seconds)

    def up_until(self, seen: Callable[[], object], seconds: float) -> Answer:
        """`pulumi up` that is interrupted, as by Ctrl-C, once a condition is seen."""
        command = [
            *self.program.lab.exec_prefix(), "pulumi", "up", "--yes", "--skip-preview",
            "--stack", self.name, "--non-interactive", "--color", "never",
        ]  # fmt: skip
        with subprocess.Popen(
            command, cwd=self.program.folder, stdin=subprocess.DEVNULL, text=True,
            env={**self.program.environment, **self.extra_environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            try:
                until(f"what `pulumi up` of {self.name} waits for", seen, seconds)
            finally:
                process.send_signal(signal.SIGINT)
                text, _ = process.communicate(timeout=COMMAND_SECONDS)
        return Answer(process.returncode, text)

    def drift(self) -> str:
        """What `preview --refresh --expect-no-changes` complains about; empty if nothing."""
        answer = self.pulumi("preview", "--refresh", "--expect-no-changes", "--diff")
        return "" if answer else answer.text

    def destroy(self) -> Answer:
        answer = self.pulumi("destroy", "--yes", "--skip-preview")
        assert answer, f"pulumi destroy of {self.name} failed:\n{answer.text[-6000:]}"
        return answer

    def outputs(self, secrets: bool = False) -> dict[str, Any]:
        shown = ("--show-secrets",) if secrets else ()
        answer = self.pulumi("stack", "output", "--json", *shown)
        assert answer, answer.text
        return dict(json.loads(answer.text))
