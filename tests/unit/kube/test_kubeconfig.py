"""Kubeconfigs: each way to say who one is, and one sentence for each mistake."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pgha.kube.client import Api, ApiError, token_file

pytestmark = pytest.mark.unit


def write(path: Path, user: dict[str, Any], **changes: Any) -> Path:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "demo"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
        **changes,
    }
    path.write_text(json.dumps(config))
    return path


def token(api: Api) -> str | None:
    return None if api._token is None else api._token()


def test_tokens(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    assert token(Api.from_kubeconfig(write(tmp_path / "a", {"token": "abc"}))) == "abc"
    assert token(Api.from_kubeconfig(write(tmp_path / "b", {"tokenFile": "token"}))) == "from-file"
    assert token(Api.from_kubeconfig(write(tmp_path / "c", {}))) is None


def test_a_credential_plugin(tmp_path: Path) -> None:
    script = (
        "import json, os; assert json.loads(os.environ['KUBERNETES_EXEC_INFO']);"
        "print(json.dumps({'status': {'token': os.environ['WHO']}}))"
    )
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable,
                     "args": ["-c", script], "env": [{"name": "WHO", "value": "me"}]}}  # fmt: skip
    assert token(Api.from_kubeconfig(write(tmp_path / "a", user))) == "me"
    broken = {"exec": {"command": sys.executable, "args": ["-c", "raise SystemExit(1)"]}}
    with pytest.raises(ApiError, match="credential plugin"):
        token(Api.from_kubeconfig(write(tmp_path / "b", broken)))


def test_yaml_and_another_context(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        "current-context: x\n"
        "contexts: [{name: y, context: {cluster: k, user: u}}]\n"
        "clusters: [{name: k, cluster: {server: 'http://h:1'}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
    )
    api = Api.from_kubeconfig(path, "y")
    assert api.base == "http://h:1" and api.namespace == "default"
    with pytest.raises(ApiError, match='no context "x"'):
        Api.from_kubeconfig(path)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "", "just words"])
def test_nonsense_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ApiError, match=str(path)):
        Api.from_kubeconfig(path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="cannot be read"):
        Api.from_kubeconfig(tmp_path / "none")


def test_outside_a_cluster_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ApiError, match="pass a kubeconfig"):
        Api.in_cluster()


def test_inside_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("demo\n")
    monkeypatch.setattr("pgha.kube.client.SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr("ssl.create_default_context", lambda cafile: None)
    api = Api.in_cluster()
    assert api.base == "https://[fd00::1]:443" and api.namespace == "demo" and token(api) == "t"


def test_a_rotated_token_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    read = token_file(path)
    assert read() == "one"
    path.write_text("two")
    now = 30.0
    assert read() == "one"
    now = 61.0
    assert read() == "two"


def test_a_vanished_token_is_an_unambiguous_failure(tmp_path: Path) -> None:
    api = Api("http://127.0.0.1:1", token_file(tmp_path / "none"), None, "demo")
    with pytest.raises(ApiError, match="token cannot be read") as caught:
        api.request("GET", "/x")
    assert not caught.value.ambiguous
