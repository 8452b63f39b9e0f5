"""Which cluster a kubeconfig names, and what is said of one that cannot be used."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.provider.kubeconfig import NoCluster, active_cluster, load

pytestmark = pytest.mark.unit


def config(**user: Any) -> dict[str, Any]:
    return {
        "current-context": "lab",
        "contexts": [
            {"name": "lab", "context": {"cluster": "c", "user": "u", "namespace": "mine"}},
            {"name": "other", "context": {"cluster": "d", "user": "u"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {
                "server": "https://10.90.0.1:6443/",
                "certificate-authority-data": base64.b64encode(b"CA").decode()}},
            {"name": "d", "cluster": {
                "server": "https://other:6443", "insecure-skip-tls-verify": True}},
        ],
        "users": [{"name": "u", "user": user}],
    }  # fmt: skip


def test_a_file_with_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "u.crt").write_text("CERTIFICATE")
    (tmp_path / "u.key").write_text("KEY")
    file = tmp_path / "config"
    user = {"client-certificate": "u.crt", "client-key": "u.key"}
    file.write_text(yaml.safe_dump(config(**user)))
    target = load("", "", "", {"KUBECONFIG": str(file)})
    assert (target.server, target.namespace, target.ca) == ("https://10.90.0.1:6443", "mine", "CA")
    assert (target.certificate, target.key, target.verify) == ("CERTIFICATE", "KEY", True)


def test_the_text_itself_and_another_context() -> None:
    target = load(yaml.safe_dump(config(token="secret")), "other", "", {})
    assert (target.server, target.namespace, target.verify) == ("https://other:6443", "default",
                                                                False)  # fmt: skip
    assert target.headers == {"Authorization": "Bearer secret"}
    assert load(yaml.safe_dump(config()), "", "d", {}).server == "https://other:6443"
    basic = load(yaml.safe_dump(config(username="a", password="b")), "", "", {})
    assert basic.headers == {"Authorization": "Basic YTpi"}


def test_of_several_files_the_first_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text(yaml.safe_dump({"current-context": "other"}))
    second.write_text(yaml.safe_dump(config()))
    target = load("", "", "", {"KUBECONFIG": f"{first}:{tmp_path / 'none'}:{second}"})
    assert target.server == "https://other:6443"


def test_a_path_that_is_given_is_one_file_with_paths_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the official provider: KUBECONFIG is read in another way than the argument."""
    folder = tmp_path / "kube"
    folder.mkdir()
    file = folder / "config"
    file.write_text(yaml.safe_dump(config(**{"client-key": "u.key", "client-certificate": "c"})))
    (tmp_path / "u.key").write_text("KEY")
    (tmp_path / "c").write_text("CERTIFICATE")
    monkeypatch.chdir(tmp_path)
    assert load(str(file), "", "", {}).key == "KEY"
    with pytest.raises(NoCluster, match="nor a file's text, is no kubeconfig"):
        load(f"{file}:{tmp_path / 'other'}", "", "", {})


def test_one_cluster_is_told_from_another_by_its_entry() -> None:
    text = yaml.safe_dump(config(token="a"))
    assert active_cluster("", "lab", "") is None
    found = active_cluster(text, "", "")
    assert found is not None and found["server"] == "https://10.90.0.1:6443/"
    assert active_cluster(text, "", "") == active_cluster(yaml.safe_dump(config()), "lab", "")
    assert active_cluster(text, "other", "") == active_cluster(text, "", "d") != found
    assert active_cluster(text, "nowhere", "") is None
    assert active_cluster("a: [", "", "") is None


@pytest.mark.parametrize(
    ("text", "context", "said"),
    [
        (yaml.safe_dump(config(exec={"command": "aws"})), "", "LAB_PROVIDER=official"),
        (yaml.safe_dump(config()), "nowhere", "has no context 'nowhere'"),
        ("a: [\n", "", "is no YAML"),
        ("- 1\n- 2\n", "", "is no kubeconfig"),
        ("clusters: []\nusers: []\n", "", "has no current-context"),
        (yaml.safe_dump(config(**{"client-key": "none"})), "", "client-key cannot be read"),
    ],
)
def test_what_cannot_be_used(text: str, context: str, said: str) -> None:
    with pytest.raises(NoCluster, match=said):
        load(text, context, "", {})


def test_no_kubeconfig_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="there is no kubeconfig at"):
        load("", "", "", {"KUBECONFIG": str(tmp_path / "none")})
