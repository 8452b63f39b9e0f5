"""Which provider the engine finds: the official one where there is one, else the stand-in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab import pulumi_engine, versions
from lab.cluster import Lab
from lab.provider.__main__ import GREETING
from lab.requirements import LabError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user has no plugin anywhere."""
    monkeypatch.delenv("LAB_PROVIDER", raising=False)
    monkeypatch.delenv("PULUMI_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def plugin(cache: Path) -> Path:
    name = f"resource-kubernetes-v{versions.PULUMI_KUBERNETES}"
    return cache / "pulumi" / "plugins" / name / "pulumi-resource-kubernetes"


def official(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_stand_in_takes_the_place_of_a_missing_one(tmp_path: Path) -> None:
    pulumi_engine.install(tmp_path)
    assert pulumi_engine.is_stand_in(tmp_path)
    assert plugin(tmp_path).stat().st_mode & 0o111
    before = plugin(tmp_path).stat().st_mtime_ns
    pulumi_engine.install(tmp_path)
    assert plugin(tmp_path).stat().st_mtime_ns == before


def test_an_official_one_that_is_installed_stays(tmp_path: Path) -> None:
    official(plugin(tmp_path), "official")
    pulumi_engine.install(tmp_path)
    assert plugin(tmp_path).read_text() == "official"
    assert not pulumi_engine.is_stand_in(tmp_path)


def test_an_official_one_on_path_is_used(tmp_path: Path) -> None:
    pulumi_engine.install(tmp_path)
    found = official(tmp_path / "path" / "pulumi-resource-kubernetes")
    pulumi_engine.install(tmp_path)
    assert plugin(tmp_path).resolve() == found.resolve()


@pytest.mark.parametrize("named", [True, False])
def test_an_official_one_in_the_users_pulumi_home_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    home = tmp_path / "mine" if named else tmp_path / "home" / ".pulumi"
    if named:
        monkeypatch.setenv("PULUMI_HOME", str(home))
    version = versions.PULUMI_KUBERNETES
    official(home / "plugins" / "resource-kubernetes-v0.1.0" / "pulumi-resource-kubernetes")
    pulumi_engine.install(tmp_path)
    assert pulumi_engine.is_stand_in(tmp_path), "another version is another plugin"
    found = official(
        home / "plugins" / f"resource-kubernetes-v{version}" / "pulumi-resource-kubernetes"
    )
    pulumi_engine.install(tmp_path)
    assert plugin(tmp_path).resolve() == found
    # Inside `lab shell` PULUMI_HOME is the lab's own, which is no other place to look.
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    pulumi_engine.install(tmp_path)
    assert pulumi_engine.is_stand_in(tmp_path)


def test_a_choice_holds_only_while_the_variable_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = official(tmp_path / "given" / "pulumi-resource-kubernetes")
    monkeypatch.setenv("LAB_PROVIDER", str(given))
    pulumi_engine.install(tmp_path)
    monkeypatch.delenv("LAB_PROVIDER")
    pulumi_engine.install(tmp_path)
    assert pulumi_engine.is_stand_in(tmp_path)
    official(tmp_path / "path" / "pulumi-resource-kubernetes")
    pulumi_engine.install(tmp_path)
    assert not pulumi_engine.is_stand_in(tmp_path)
    monkeypatch.setenv("LAB_PROVIDER", "stand-in")
    pulumi_engine.install(tmp_path)
    assert pulumi_engine.is_stand_in(tmp_path)


def test_asked_for_the_official_one_an_installed_one_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing may be started"))
    found = official(tmp_path / "path" / "pulumi-resource-kubernetes")
    monkeypatch.setenv("LAB_PROVIDER", "official")
    pulumi_engine.install(tmp_path)
    assert plugin(tmp_path).resolve() == found


def test_a_path_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = official(tmp_path / "mine" / "pulumi-resource-kubernetes")
    for named in (given, given.parent):
        monkeypatch.setenv("LAB_PROVIDER", str(named))
        pulumi_engine.install(tmp_path)
        assert plugin(tmp_path).resolve() == given.resolve()
    monkeypatch.setenv("LAB_PROVIDER", "stand-in")
    pulumi_engine.install(tmp_path)
    assert pulumi_engine.is_stand_in(tmp_path)
    assert given.read_text() == "#!/bin/sh\nexit 0\n"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_PROVIDER", "mine")
    pulumi_engine.install(tmp_path)
    assert plugin(tmp_path).resolve() == given


def test_a_path_to_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PROVIDER", str(tmp_path / "none"))
    with pytest.raises(LabError, match=r"names .*none, which is no program"):
        pulumi_engine.install(tmp_path)
    (tmp_path / "folder" / "pulumi-resource-kubernetes").mkdir(parents=True)
    monkeypatch.setenv("LAB_PROVIDER", str(tmp_path / "folder"))
    with pytest.raises(LabError, match="which is no program"):
        pulumi_engine.install(tmp_path)


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(subprocess, "run", refuse)
    pulumi_engine.install(tmp_path)
    assert pulumi_engine.is_stand_in(tmp_path)


def test_the_official_one_is_downloaded_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    official(
        tmp_path / "bin" / "pulumi",
        f'#!/bin/sh\necho "$PULUMI_HOME $*" > {asked}\n/bin/mkdir -p {plugin(tmp_path).parent}\n'
        f"echo official > {plugin(tmp_path)}\n",
    )
    monkeypatch.setenv("LAB_PROVIDER", "official")
    pulumi_engine.install(tmp_path)
    version = versions.PULUMI_KUBERNETES
    assert asked.read_text() == (
        f"{tmp_path / 'pulumi'} plugin install resource kubernetes {version}\n"
    )
    assert not pulumi_engine.is_stand_in(tmp_path)
    asked.unlink()
    pulumi_engine.install(tmp_path)
    assert not asked.exists()


def test_a_download_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official(tmp_path / "bin" / "pulumi", "#!/bin/sh\necho no route to host >&2\nexit 1\n")
    monkeypatch.setenv("LAB_PROVIDER", "official")
    with pytest.raises(LabError, match="cannot be downloaded here .*no route to host"):
        pulumi_engine.install(tmp_path)


def test_the_environment_is_the_caches_own(tmp_path: Path) -> None:
    found = pulumi_engine.environment(tmp_path)
    assert found["PULUMI_HOME"] == str(tmp_path / "pulumi")
    assert found["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/pulumi/state"
    assert found["PATH"].split(":")[:2] == [str(tmp_path / "bin"), str(tmp_path / "venv" / "bin")]
    for each in ("SKIP_UPDATE_CHECK", "DISABLE_AUTOMATIC_PLUGIN_ACQUISITION",
                 "IGNORE_AMBIENT_PLUGINS"):  # fmt: skip
        assert found[f"PULUMI_{each}"] == "true"


def test_the_lab_hands_on_that_environment_whole(tmp_path: Path) -> None:
    lab = Lab(tmp_path, "spare")
    found, engine = lab.env(), pulumi_engine.environment(tmp_path)
    assert {key: found[key] for key in engine if key != "PULUMI_BACKEND_URL"} == {
        key: value for key, value in engine.items() if key != "PULUMI_BACKEND_URL"
    }
    assert found["PULUMI_BACKEND_URL"] == f"file://{lab.layout.pulumi_state}"


def test_the_stand_in_says_first_what_it_is(tmp_path: Path) -> None:
    """And it ends with whoever started it: here its standard output is closed, and a signal."""
    root = Path(pulumi_engine.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "lab.provider", "127.0.0.1:1"], cwd=tmp_path, text=True,
        env={"PYTHONPATH": str(root)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stderr.readline() == f"{GREETING}\n"
        assert int(process.stdout.readline()) > 0
        process.terminate()
        assert process.wait(20) == 0


def test_the_stand_in_wants_an_engine(tmp_path: Path) -> None:
    root = Path(pulumi_engine.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "lab.provider"], cwd=tmp_path, env={"PYTHONPATH": str(root)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "is started by pulumi" in done.stderr
