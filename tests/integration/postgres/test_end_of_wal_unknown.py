"""Where the end of WAL cannot be told, that is said: what is missing, and within its time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgha.member import Member
from pgha.postgres import processes, wal
from pgha.postgres.control import WalMissing
from tests.integration.postgres.inside import Place
from tests.integration.postgres.nodes import Node, instead_of, one_version

pytestmark = pytest.mark.integration


def _no_wal(node: Node) -> None:
    for path in node.wal.iterdir():
        if path.is_file():
            path.unlink()


def _torn_checkpoint(node: Node) -> None:
    control = node.directory.control()
    segment, at = divmod(int(control.checkpoint), control.segment_size)
    name = wal.Shape(control.segment_size, control.system_id).name(control.timeline, segment)
    with open(node.wal / name, "r+b") as file:
        file.seek(at)
        file.write(bytes(64))


@one_version
@pytest.mark.parametrize("lose", [_no_wal, _torn_checkpoint])
def test_wal_that_recovery_begins_with_is_missing(
    lose: Callable[[Node], None], image: Place
) -> None:
    """What the primary is asked for then (rule ask-for-wal)."""
    node = Node("ha-0").leading()
    node.crash()
    lose(node)
    member = Member(node.directory)
    member.look()
    with pytest.raises(WalMissing, match="clone") as missing:
        member.read_end(10.0)
    assert member.data.lacks == missing.value.needed


@one_version
def test_a_reading_that_takes_too_long_ends(image: Place) -> None:
    node = Node("ha-0").leading()
    node.crash()
    node.directory.bin = instead_of("pg_waldump", node.bin, "exec sleep 60")
    with pytest.raises(wal.WalUnreadable, match="pg_waldump"):
        node.directory.end_of_wal(0.5)
    assert not [p for p in processes.everybody() if processes.title(p).startswith("sleep")]
