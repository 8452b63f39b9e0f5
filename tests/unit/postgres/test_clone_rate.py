"""From settings.json to pg_basebackup: `clone.maxRate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pgha.copies import Copies
from pgha.postgres import copying
from pgha.postgres.directory import Directory
from pgha.settings import Identity, Settings

pytestmark = pytest.mark.unit

CLUSTER = {"name": "ha", "namespace": "demo", "appName": "postgres", "version": "17"}
FOUND = copying.CopyFailed("this is how far the test goes")


def rate_options(folder: Path, monkeypatch: pytest.MonkeyPatch, clone: Any) -> list[str]:
    """The options that limit the rate, of a clone with that section of settings.json."""
    commands: list[Sequence[str | Path]] = []

    def run(command: Sequence[str | Path], *_: object) -> None:
        commands.append(command)
        raise FOUND

    monkeypatch.setattr(copying, "_run", run)
    (folder / "replicationPassword").write_text("secret")
    copies = Copies(
        Settings.parse({**CLUSTER, **clone}), Identity("ha-1", "uid", "start"),
        Directory(folder / "pgdata", folder / "bin"), None, None,  # type: ignore[arg-type]
        folder, None, folder, folder,  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(copying.CopyFailed, match=str(FOUND)):
        copies.clone("ha-0", lambda: False)
    return [str(word) for word in commands[0] if "rate" in str(word)]


def test_a_limit_is_given_in_kilobytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"clone": {"maxRate": 50 * 2**20}}
    assert rate_options(tmp_path, monkeypatch, given) == ["--max-rate=51200"]


@pytest.mark.parametrize("given", [{}, {"clone": {"maxRate": None}}])
def test_without_one_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    """The settings of a stack that was made before the key existed have none either."""
    assert rate_options(tmp_path, monkeypatch, given) == []
