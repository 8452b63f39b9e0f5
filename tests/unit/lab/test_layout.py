"""Names and addresses of a lab, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.layout import Layout, enter
from lab.paths import Cache, cache_from_environment
from lab.requirements import LabError

pytestmark = pytest.mark.unit


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(Cache(tmp_path))


def test_namespaces(layout: Layout) -> None:
    assert layout.namespaces == ["lab", "lab-node1", "lab-node2", "lab-node3"]


def test_addresses(layout: Layout) -> None:
    assert [layout.node_address(n) for n in layout.numbers] == [
        "10.90.0.11",
        "10.90.0.12",
        "10.90.0.13",
    ]
    assert layout.pod_subnet(2) == "10.91.2.0/24"


def test_enters_by_nsenter(layout: Layout) -> None:
    assert enter(layout.node_name(1)) == ["nsenter", "--net=/run/netns/lab-node1"]


def test_a_second_lab_shares_no_name(tmp_path: Path, layout: Layout) -> None:
    other = Layout(Cache(tmp_path), "spare")
    assert not set(other.namespaces) & set(layout.namespaces)
    assert other.run != layout.run
    assert other.pulumi_state != layout.pulumi_state


@pytest.mark.parametrize("name", ["", "Lab", "lab/..", "a-b", "1lab", "muchtoolong"])
def test_refuses_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match="cannot be called"):
        Layout(Cache(tmp_path), name)


@pytest.mark.parametrize("nodes", [0, 10])
def test_refuses_a_number_of_nodes(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(LabError, match="1 to 9 nodes"):
        Layout(Cache(tmp_path), nodes=nodes)


def test_refuses_a_node_that_is_not_there(layout: Layout) -> None:
    with pytest.raises(LabError, match="no node 4: the lab has nodes 1 to 3"):
        layout.node_name(4)


def test_cache_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHA_CACHE", str(tmp_path))
    assert cache_from_environment() == tmp_path
    monkeypatch.delenv("PGHA_CACHE")
    monkeypatch.setenv("HOME", "/nowhere")
    assert cache_from_environment() == Path("/nowhere/.cache/pgha")
