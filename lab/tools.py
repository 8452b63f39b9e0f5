"""Builds the cluster's and the Pulumi engine's executables from Go modules, once, into the cache.

Owns `bin/` of the cache but for what `lab.pulumi_engine` adds. A group of tools is built again
only when its module folder, its flags or a version change. Never writes into the checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import versions
from lab.locking import locked
from lab.paths import Cache
from lab.requirements import LabError, free_gigabytes

MODULES = Path(__file__).resolve().parent / "gomod"
# A Go build cache of these tools takes about 4 GB; on a small disk it is not worth keeping.
CLEAN_BELOW_GIGABYTES = 20
PROGRESS_SECONDS = 15.0

_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR = versions.KUBERNETES.removeprefix("v").split(".")[:2]
_KUBERNETES_LDFLAGS = (
    f"-s -w -X {_VERSION}.gitVersion={versions.KUBERNETES}"
    f" -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}"
)
_PULUMI_LDFLAGS = (
    "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=" + versions.PULUMI
)


@dataclass(frozen=True)
class Group:
    """Executables that one `go build` makes: file name in `bin/` -> Go package."""

    module: str
    packages: tuple[tuple[str, str], ...]
    ldflags: str
    tags: str = ""

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.packages]

    def digest(self) -> str:
        """Changes whenever an input of the build does."""
        digest = hashlib.sha256(repr((self.packages, self.ldflags, self.tags)).encode())
        for file in sorted((MODULES / self.module).rglob("*")):
            if file.is_file():
                digest.update(f"{file.relative_to(MODULES)}\n".encode() + file.read_bytes())
        return digest.hexdigest()


GROUPS = (
    Group(
        "one",
        tuple(
            (name, f"k8s.io/kubernetes/cmd/{name}")
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        ),
        _KUBERNETES_LDFLAGS,
    ),
    Group("one", (("etcd", "go.etcd.io/etcd/server/v3"),), "-s -w"),
    Group("one", (("coredns", "./coredns"),), "-s -w"),
    Group(
        "pulumi",
        (("pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"),),
        _PULUMI_LDFLAGS,
        tags="osusergo,grpcnotrace",
    ),
    Group(
        "langhost",
        (
            (
                "pulumi-language-python",
                "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python",
            ),
        ),
        _PULUMI_LDFLAGS,
    ),
)
LANGUAGE_EXEC = "pulumi-language-python-exec"


def build(cache: Cache) -> None:
    """Bring `bin/` up to date; says what it builds and how long it took, else nothing."""
    cache.bin.mkdir(parents=True, exist_ok=True)
    with locked(cache.root / "bin.lock"):
        stamps = _Stamps(cache.bin / ".stamps.json")
        stale = [group for group in GROUPS if not stamps.fresh(group, cache.bin)]
        language_exec = cache.bin / LANGUAGE_EXEC
        if not stale and stamps.get(LANGUAGE_EXEC) == versions.PULUMI and language_exec.exists():
            return
        started = time.monotonic()
        if shutil.which("go") is None:
            raise LabError(
                "Go is missing: the cluster's tools are compiled from Go modules, so install Go "
                "1.26 or later and put `go` on PATH."
            )
        for group in stale:
            _build_group(group, cache.bin)
            stamps.put(group.names[0], group.digest())
        _copy_language_exec(language_exec)
        stamps.put(LANGUAGE_EXEC, versions.PULUMI)
        _say(f"tools ready in {cache.bin} after {_duration(started)}")
        if os.environ.get("LAB_CLEAN_GO_CACHE") or (
            stale and free_gigabytes(cache.root) < CLEAN_BELOW_GIGABYTES
        ):
            _say("cleaning the Go build cache, its disk is nearly full")
            subprocess.run(["go", "clean", "-cache"], check=True)


class _Stamps:
    """The digests of what `bin/` was built from."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._values: dict[str, str] = json.loads(file.read_text())
        except (FileNotFoundError, ValueError):
            self._values = {}

    def get(self, name: str) -> str | None:
        return self._values.get(name)

    def fresh(self, group: Group, folder: Path) -> bool:
        built = all((folder / name).exists() for name in group.names)
        return built and self.get(group.names[0]) == group.digest()

    def put(self, name: str, digest: str) -> None:
        self._values[name] = digest
        self._file.write_text(json.dumps(self._values, indent=1))


def _go_environment() -> dict[str, str]:
    flags = "-mod=readonly -buildvcs=false"
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": flags}


def _build_group(group: Group, folder: Path) -> None:
    """Compile into a folder of its own and move, so that `bin/` never holds half a file."""
    started = time.monotonic()
    fresh = folder / f".building-{group.names[0]}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    output = f"{fresh}/" if len(group.packages) > 1 else str(fresh / group.names[0])
    command = ["go", "build", "-v", "-trimpath", "-ldflags", group.ldflags, "-o", output]
    if group.tags:
        command += ["-tags", group.tags]
    command += [package for _, package in group.packages]
    _say(f"building {', '.join(group.names)}")
    with subprocess.Popen(
        command,
        cwd=MODULES / group.module,
        env=_go_environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        errors = _follow(process.stderr, started)
    if process.returncode != 0:
        raise LabError(
            f"`go build` of {', '.join(group.names)} failed with status {process.returncode}; "
            "its last lines were:\n" + "\n".join(errors[-20:])
        )
    for name in group.names:
        (fresh / name).replace(folder / name)
    fresh.rmdir()
    _say(f"built {', '.join(group.names)} in {_duration(started)}")


def _follow(lines: Iterable[str], started: float) -> list[str]:
    """Count the packages that `go build -v` names; return what else it said."""
    packages, downloads, spoke = 0, 0, time.monotonic()
    other: list[str] = []
    for line in lines:
        text = line.rstrip()
        if text.startswith("go: downloading"):
            downloads += 1
        elif text and " " not in text:
            packages += 1
        else:
            other.append(text)
        if time.monotonic() - spoke > PROGRESS_SECONDS:
            spoke = time.monotonic()
            _say(
                f"  {packages} packages compiled, {downloads} modules fetched, "
                f"{_duration(started)} so far"
            )
    return other


def _copy_language_exec(target: Path) -> None:
    """The small script beside the language host comes from the sdk module of the engine."""
    module = f"github.com/pulumi/pulumi/sdk/v3@{versions.PULUMI}"
    answer = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=MODULES / "pulumi",
        env=_go_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        raise LabError(
            f"`go mod download {module}` failed, so {LANGUAGE_EXEC} cannot be copied from it: "
            f"{answer.stderr.strip() or answer.stdout.strip()}"
        )
    source = Path(json.loads(answer.stdout)["Dir"]) / "python" / "cmd" / LANGUAGE_EXEC
    fresh = target.with_name(f".{target.name}")
    shutil.copyfile(source, fresh)
    fresh.chmod(0o755)
    fresh.replace(target)


def _duration(started: float) -> str:
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
