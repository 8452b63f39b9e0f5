"""The versions that the lab prints are the ones that its Go modules build."""

from __future__ import annotations

import re

import pytest

from lab import tools, versions

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("module", "requirement", "version"),
    [
        ("one", "k8s.io/kubernetes", versions.KUBERNETES),
        ("one", "go.etcd.io/etcd/server/v3", versions.ETCD),
        ("one", "github.com/coredns/coredns", versions.COREDNS),
        ("pulumi", "github.com/pulumi/pulumi/pkg/v3", versions.PULUMI),
        ("langhost", "github.com/pulumi/pulumi/sdk/v3", versions.PULUMI_LANGUAGE_HOST_SDK),
    ],
)
def test_go_mod_requires_the_pinned_version(module: str, requirement: str, version: str) -> None:
    text = (tools.MODULES / module / "go.mod").read_text()
    assert re.findall(rf"{re.escape(requirement)} (v\S+)", text) == [version]


def test_every_group_builds_from_a_module_that_is_there() -> None:
    for group in tools.GROUPS:
        assert (tools.MODULES / group.module / "go.sum").exists()


def test_no_tool_is_built_twice() -> None:
    names = [name for group in tools.GROUPS for name in group.names]
    assert len(names) == len(set(names))


def test_digest_follows_the_flags() -> None:
    one = tools.Group("one", (("etcd", "go.etcd.io/etcd/server/v3"),), "-s -w")
    other = tools.Group("one", (("etcd", "go.etcd.io/etcd/server/v3"),), "-s")
    assert one.digest() == tools.Group(one.module, one.packages, one.ldflags).digest()
    assert one.digest() != other.digest()


def test_kubernetes_says_its_minor_version() -> None:
    kubernetes = tools.GROUPS[0]
    assert f"gitVersion={versions.KUBERNETES}" in kubernetes.ldflags
    assert "gitMinor=34" in kubernetes.ldflags
