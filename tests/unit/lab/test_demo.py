"""`make up` on a cluster of your own, before it asks that cluster for anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab import demo
from lab.demo import Target
from lab.requirements import LabError

pytestmark = pytest.mark.unit


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lab beside which another cluster's kubeconfig is set; what the cluster is asked fails."""

    def asked(target: Target, *command: str, capture: bool = False) -> str:
        raise LabError(f"asked: {command[0]}")

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "own"))
    monkeypatch.setattr(demo, "REPOSITORY", tmp_path)
    monkeypatch.setattr(Target, "run", asked)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return SimpleNamespace(kubeconfig=tmp_path / "lab")


@pytest.mark.parametrize("line", ["", "\n  pgha:operatorImage: ''"])
def test_refuses_a_stack_without_an_image_that_can_be_pulled(
    lab: Any, tmp_path: Path, line: str
) -> None:
    (tmp_path / "Pulumi.ha-mssqlserver.yaml").write_text(f"config:\n  pgha:replicas: 3{line}\n")
    with pytest.raises(LabError) as refused:
        demo.run(lab)
    sentence = str(refused.value)
    assert sentence.startswith("Pulumi.ha-mssqlserver.yaml sets no operatorImage")
    assert "`pulumi config set operatorImage REGISTRY/" in sentence


@pytest.mark.parametrize("key", ["pgha:operatorImage", "operatorImage"])
def test_goes_on_with_an_image_of_the_stacks_own(lab: Any, tmp_path: Path, key: str) -> None:
    (tmp_path / "Pulumi.ha-mssqlserver.yaml").write_text(f"config:\n  {key}: registry.example/o\n")
    with pytest.raises(LabError, match="^asked: kubectl$"):
        demo.run(lab)


def test_takes_down_a_stack_without_one(lab: Any) -> None:
    with pytest.raises(LabError, match="^asked: pulumi$"):
        demo.tear_down(lab)
