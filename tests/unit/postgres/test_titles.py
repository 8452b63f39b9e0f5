"""Process titles of PostgreSQL 13 to 18, and titles that only look like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgha.lsn import LSN
from pgha.postgres import processes
from pgha.postgres.conf import ServerConf
from pgha.postgres.directory import Directory
from pgha.postgres.server import Receiver, Server

pytestmark = pytest.mark.unit

RECEIVERS = {
    "walreceiver": None,
    "walreceiver streaming 0/3000060": LSN(0x3000060),
    "walreceiver   streaming A/BC012": LSN.parse("A/BC012"),
    "walreceiver idle": None,
    "walreceiver waiting": None,
    "walreceiver restarting from 0/3000000": None,
}
STARTUPS = [
    "startup",
    "startup recovering 000000020000000000000003",
    "startup   recovering 000000020000000000000003",
    "startup recovering 000000020000000000000003 waiting",
    "startup waiting for 000000020000000000000003",
    "startup performing end-of-recovery checkpoint",
]
BACKENDS = [
    "walreceiver idle [local] idle",
    "walreceiver streaming 10.0.0.1(55) idle",
    "walreceiver waiting [local] SELECT",
    "walreceiver 0/3000060 10.0.0.1(55) idle",
    "startup recovering [local] idle",
    "startup waiting 10.0.0.1(55) SELECT",
    "startup startup [local] startup",
    "postgres postgres [local] startup",
    "checkpointer",
    "",
]


class Listed(Server):
    """One whose children have these titles."""

    def __init__(self, folder: Path, *titles: str) -> None:
        super().__init__(Directory(folder, folder), folder, folder)
        self._conf = ServerConf("ha-0", "postgres", 15)
        self.titles = titles


@pytest.fixture(params=["postgres: ha-0: ", "postgres: "], ids=["named", "plain"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def listed(monkeypatch: pytest.MonkeyPatch, folder: Path, *titles: str) -> Server:
    server = Listed(folder, *titles)
    monkeypatch.setattr(processes, "title", lambda pid: titles[pid])
    server._process = type("Process", (), {"pid": 1})()
    original = server._titles
    monkeypatch.setattr(
        server, "_titles",
        lambda what, children=None: original(what, lambda pid: list(range(len(titles)))),
    )  # fmt: skip
    return server


@pytest.mark.parametrize("title", RECEIVERS)
def test_a_receiver_is_seen_whatever_it_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, title: str
) -> None:
    server = listed(monkeypatch, tmp_path, prefix + "checkpointer", prefix + title)
    assert server.receiver() == Receiver(1, RECEIVERS[title])
    assert server._titles("startup") == []


@pytest.mark.parametrize("title", STARTUPS)
def test_the_startup_process_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, title: str
) -> None:
    server = listed(monkeypatch, tmp_path, prefix + title)
    assert server._titles("startup") == [(0, prefix + title)]
    assert server.receiver() is None


@pytest.mark.parametrize("title", BACKENDS)
def test_a_backend_is_neither(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, title: str
) -> None:
    server = listed(monkeypatch, tmp_path, prefix + title)
    assert server.receiver() is None
    assert server._titles("startup") == []


def test_walsenders_of_the_members_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = "postgres: ha-0: walsender pgha_replication 10.0.0.2(55) streaming 0/3000060"
    server = listed(
        monkeypatch, tmp_path, ours, "postgres: ha-0: walsender somebody [local] idle"
    )
    assert server.walsenders() == [ours]
