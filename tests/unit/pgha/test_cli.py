"""The command line where things are broken: one sentence, exit status 1, and no traceback."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgha import asked, cli
from pgha.kube.errors import ApiUnreachable
from pgha.record import Promotion, Record
from pgha.settings import Settings
from tests.unit.pgha.passing import Clock

pytestmark = pytest.mark.unit

RECORD = Record(
    term=4, init="initialized", timeline=2, primary="c-0", read_quorum=2,
    promotion=Promotion(4, 2, "c-0/u/s", done=True),
    voters=(("c-0", "d0"), ("c-1", "d1"), ("c-2", "d2")),
)  # fmt: skip
PODS = {
    name: {"metadata": {"name": name, "annotations": {"pgha.dev/status": json.dumps(said)}}}
    for name, said in (
        ("c-0", {"rule": "primary", "why": "it holds the lease"}),
        ("c-1", {"rule": "record-unreadable", "why": "nothing is guessed"}),
    )
}


class Api:
    """A Lease and two pods; `fails` is asked before each call, `then` is what the agents do."""

    namespace = "ns"

    def __init__(self, record: str) -> None:
        self.holder: str | None = "c-0/u/s"
        self.notes = {cli.RECORD: record}
        self.fails: Callable[[str], bool] = lambda method: False
        self.then: Callable[[], None] = lambda: None
        self.asked = False

    def request(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        if self.fails(method):
            raise ApiUnreachable(f"{method} {path} got no answer")
        if path.endswith("/pods"):
            return {"items": list(PODS.values())}
        if method == "PUT":
            self.notes, self.asked = body["metadata"]["annotations"], True
            self.then()
        return {
            "metadata": {"resourceVersion": "1", "uid": "u", "annotations": self.notes},
            "spec": {"holderIdentity": self.holder, "leaseDurationSeconds": 15, "renewTime": "t"},
        }

    def switched(self) -> None:
        request = asked.switchover(self.notes[asked.SWITCHOVER])
        assert request is not None
        self.holder = "c-1/u/s"
        self.notes[cli.RECORD] = replace(RECORD, switched=request.id).dump()

    def waived(self) -> None:
        self.holder = "c-1/u/s"
        promotion = Promotion(5, 3, "c-1/u/s", done=True)
        self.notes[cli.RECORD] = replace(RECORD, term=5, promotion=promotion).dump()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(cli, "time", made)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return made


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api(RECORD.dump())
    monkeypatch.setattr(cli.Api, "in_cluster", lambda: made)
    return made


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command printed before its one sentence."""
    shown = capsys.readouterr()
    (sentence,) = shown.err.splitlines()
    assert sentence.startswith("pgha: ")
    for word in words:
        assert word in sentence
    return shown.out


WAIVE = ["waive-quorum", "c", "--member", "c-1", "--term", "4", "--accept-data-loss"]
SWITCH = ["switchover", "c", "--to", "c-1"]


# -- a record that cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize("record", ["{", '{"minReader": 2}', '{"term": -1}'])
@pytest.mark.parametrize("command", [["status", "c"], SWITCH, WAIVE])
def test_nothing_is_guessed_from_an_unreadable_record(
    api: Api, capsys: pytest.CaptureFixture[str], command: list[str], record: str
) -> None:
    api.notes[cli.RECORD] = record
    assert cli.main(command) == 1
    assert refused(capsys, "Lease c in namespace ns: the record") == ""
    assert not api.asked


def test_why_tells_what_the_members_say_of_it(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.notes[cli.RECORD] = "{"
    assert cli.main(["why", "c"]) == 1
    assert refused(capsys, "restore the annotation pgha.dev/record") == (
        "c-0: primary: it holds the lease\nc-1: record-unreadable: nothing is guessed\n"
    )
    api.notes[cli.RECORD] = RECORD.dump()
    assert cli.main(["why", "c"]) == 0


# -- an API that does not answer for a while ----------------------------------------------------


def test_a_look_that_fails_does_not_end_a_switchover(
    api: Api, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    api.then = api.switched
    api.fails = lambda method: api.asked and clock.now < 30
    assert cli.main(SWITCH) == 0
    assert capsys.readouterr().out == "primary   c-1 (was c-0)\n"
    assert clock.now >= 30


def test_a_look_that_fails_does_not_end_a_waiver(
    api: Api, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    api.holder = None
    api.notes[cli.RECORD] = replace(
        RECORD, promotion=Promotion(4, 2, "c-0/u/s")
    ).dump()
    api.then = api.waived
    api.fails = lambda method: api.asked and clock.now < 30
    assert cli.main(WAIVE) == 0
    assert "primary   c-1" in capsys.readouterr().out
    assert clock.now >= 30


@pytest.mark.parametrize("command", [SWITCH, WAIVE])
def test_an_api_that_stays_away_is_told_with_what_stands(
    api: Api, clock: Clock, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    api.fails = lambda method: api.asked
    assert cli.main([*command, "--timeout", "20"]) == 1
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert "what was asked for stands" in sentence and "got no answer" in sentence
    watched = 15 + 2 * cli.LOOK if command is WAIVE else 0.0  # the lease, before it was asked for
    assert 20 <= clock.now - watched < 21


def test_a_primary_that_cannot_be_looked_at_is_not_taken_for_dead(
    api: Api, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    api.fails = lambda method: clock.now > 5
    assert cli.main(WAIVE) == 1
    assert not api.asked


def test_a_switchover_that_nobody_answers(
    api: Api, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    api.fails = lambda method: api.asked and clock.now < 30
    assert cli.main(SWITCH) == 1
    refused(capsys, "no new primary after 60 s")


def test_an_api_that_does_not_answer_at_all(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.fails = lambda method: True
    for command in (["status", "c"], ["why", "c"], SWITCH, WAIVE):
        assert cli.main(command) == 1
        refused(capsys, "Lease c in namespace ns", "got no answer")


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cluster", "user"), [
    ({"certificate-authority": "none.crt"}, {}),
    ({"certificate-authority": "broken.crt"}, {}),
    ({"certificate-authority": "binary.crt"}, {}),
    ({"certificate-authority-data": "x"}, {}),
    ({"certificate-authority-data": 1}, {}),
    ({"certificate-authority-data": base64.b64encode(b"no certificate").decode()}, {}),
    ({}, {"client-certificate": "none.crt", "client-key": "none.key"}),
    ({}, {"client-certificate": "broken.crt", "client-key": "broken.crt"}),
    ({}, {"tokenFile": 1}),
    ({"server": "https://[::1:6443"}, {}),
])  # fmt: skip
def test_a_kubeconfig_with_broken_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cluster: dict[str, Any],
    user: dict[str, Any],
) -> None:  # fmt: skip
    (tmp_path / "broken.crt").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    (tmp_path / "binary.crt").write_bytes(b"\xff\xfe")
    path = tmp_path / "config"
    path.write_text(json.dumps({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }))  # fmt: skip
    assert cli.main(["status", "c", "--kubeconfig", str(path)]) == 1
    refused(capsys, f"the kubeconfig {path} cannot be used")


def test_a_kubeconfig_that_is_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"\xff\xfe")
    assert cli.main(["status", "c", "--kubeconfig", str(path)]) == 1
    refused(capsys, str(path))


def test_a_pod_whose_certificate_of_the_api_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("demo\n")
    monkeypatch.setattr("pgha.kube.client.SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    assert cli.main(["status", "c"]) == 1
    refused(capsys, "ServiceAccount")


def test_a_copy_from_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["install", str(tmp_path)]) == 1
    refused(capsys, "run it from the operator image")


def test_an_agent_without_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Settings.read
    monkeypatch.setattr(Settings, "read", lambda path: read(tmp_path / "settings.json"))
    assert cli.main(["agent"]) == 1
    refused(capsys, "settings.json cannot be read", "pulumi up")


def test_what_is_no_mistake_of_the_user_is_not_hidden(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr(cli, "status", broken)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["status", "c"])
