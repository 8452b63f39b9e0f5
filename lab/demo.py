"""`make up` and `make down`: deploys the demo stack with Pulumi and says what to try next.

Works on the lab, or on a cluster of your own when a kubeconfig is configured. Knows the stack by
its name, its outputs, and the config key that names the operator's image.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.cluster import Lab, say
from lab.paths import REPOSITORY
from lab.requirements import LabError

STACK = "ha-mssqlserver"
NAMESPACE = "demo"
ROLE_LABEL = "kubedb.com/role"
# The members keep to the strictest pod-security level, so let the API server insist on it.
NAMESPACE_LABEL = "pod-security.kubernetes.io/enforce=restricted"


@dataclass(frozen=True)
class Target:
    """A cluster and how programs reach it."""

    prefix: list[str]
    environment: dict[str, str]
    # What a person types before a command for it.
    spoken: str

    def run(self, *command: str, capture: bool = False) -> str:
        """Run a program against the cluster; its failure is an error."""
        answer = subprocess.run(
            [*self.prefix, *command],
            env=self.environment,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            text=True,
        )
        if answer.returncode != 0:
            raise LabError(
                f"`{shlex.join(command)}` failed with status {answer.returncode}; what it said "
                "stands above."
            )
        return answer.stdout or ""


def own_kubeconfig(lab: Lab) -> str | None:
    """The kubeconfig of a cluster that is not the lab, if one is configured."""
    named = os.environ.get("KUBECONFIG", "")
    if named and Path(named) != lab.kubeconfig:
        return named
    usual = Path.home() / ".kube" / "config"
    return str(usual) if not named and usual.exists() else None


def run(lab: Lab) -> int:
    """Deploy the demo stack; the exit status."""
    target = _target(lab)
    if not target.prefix:
        _require_operator_image()
    existing = target.run("kubectl", "get", "namespaces", "-o", "name", capture=True)
    if f"namespace/{NAMESPACE}" not in existing.split():
        target.run("kubectl", "create", "namespace", NAMESPACE)
        target.run("kubectl", "label", "namespace", NAMESPACE, NAMESPACE_LABEL)
    target.run("pulumi", "stack", "select", "--create", STACK)
    target.run("pulumi", "up", "--stack", STACK, "--yes", "--skip-preview")
    outputs = json.loads(
        target.run("pulumi", "stack", "output", "--stack", STACK, "--json", capture=True)
    )
    print(_screen(lab, target, outputs))
    return 0


def tear_down(lab: Lab) -> int:
    """Undo `run`: destroy the stack on a cluster of your own, or drop the lab whole."""
    if own_kubeconfig(lab) is None:
        lab.down()
        return 0
    target = _target(lab)
    target.run("pulumi", "destroy", "--stack", STACK, "--yes", "--skip-preview")
    return 0


def _target(lab: Lab) -> Target:
    own = own_kubeconfig(lab)
    if own is None:
        lab.up()
        spoken = f"{_chosen(lab)}{sys.executable} -m lab shell -- "
        return Target(lab.exec_prefix(), lab.env(), spoken)
    say(f"using the cluster of {own}")
    for program in ("kubectl", "pulumi"):
        if shutil.which(program) is None:
            raise LabError(
                f"A cluster of your own is configured ({own}) and {program} is not on PATH: "
                f"install {program}, or unset KUBECONFIG to use the lab."
            )
    return Target([], {**os.environ, "KUBECONFIG": own}, "")


def _require_operator_image() -> None:
    """The default image is built for the lab alone, and no registry has it."""
    file = REPOSITORY / f"Pulumi.{STACK}.yaml"
    config = (yaml.safe_load(file.read_text()) or {}).get("config") or {}
    # Pulumi takes a key with and without the project's name in front.
    if not (config.get("pgha:operatorImage") or config.get("operatorImage")):
        raise LabError(
            f"{file.name} sets no operatorImage, and the default one is built for the lab alone: "
            "build and push the image (README.md, \"A cluster that you have already\"), then "
            f"`pulumi stack select --create {STACK}` and "
            "`pulumi config set operatorImage REGISTRY/pgha/operator:TAG`."
        )


def _chosen(lab: Lab) -> str:
    """The variables that a person must set again to reach this very lab."""
    usual = {"PGHA_CACHE": str(Path.home() / ".cache" / "pgha"), "LAB_NAME": "lab"}
    chosen = {"PGHA_CACHE": str(lab.layout.cache.root), "LAB_NAME": lab.layout.name}
    return "".join(
        f"{name}={shlex.quote(value)} " for name, value in chosen.items() if value != usual[name]
    )


def _screen(lab: Lab, target: Target, outputs: dict[str, Any]) -> str:
    """What runs, who is primary, and three commands to go on with."""
    name, namespace = str(outputs["name"]), str(outputs["namespace"])
    listed = target.run(
        *("kubectl", "get", "pods", "--namespace", namespace, "-o", "json"),
        *("--selector", f"app.kubernetes.io/instance={name}"),
        capture=True,
    )
    pods = json.loads(listed)["items"]
    roles = {
        pod["metadata"]["name"]: pod["metadata"]["labels"].get(ROLE_LABEL, "no role yet")
        for pod in pods
    }
    primary = next((pod for pod, role in roles.items() if role == "primary"), None)
    lines = ["", f"PostgreSQL cluster {name} in namespace {namespace}", ""]
    for pod in pods:
        pod_name = pod["metadata"]["name"]
        node = pod["spec"].get("nodeName", "no node")
        lines.append(f"  {pod_name:24} {roles[pod_name]:10} on {node}")
    lines += [
        "",
        f"  primary    {primary or 'none yet: ask ' + str(outputs['statusCommand'])}",
        f"  writes to  {outputs['primaryService']}:5432",
        "",
        "Try next, in this folder:",
        "",
        "  connect:           " + target.spoken + str(outputs["psqlCommand"]),
        "  kill the primary:  "
        + target.spoken
        + f"kubectl delete pod --namespace {namespace} {primary or name + '-0'}",
        f"  tear down:         {_chosen(lab) if target.prefix else ''}make down",
        "",
    ]
    return "\n".join(lines)
