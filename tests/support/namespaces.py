"""Namespaces of the tests. Owns their making and their removal; touches no other namespace.

A namespace that a test made bears a label, so that what a killed run left behind is found and
removed by the next one, and a namespace of the user's is never touched.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.support.kube import STATEFUL_SETS, Kube
from tests.support.waiting import until

MINE = "pgha.dev/made-by-tests"
RESTRICTED = "pod-security.kubernetes.io/enforce"


def make_namespace(kube: Kube, name: str) -> str:
    """A namespace in which only pods of pod-security level `restricted` may run."""
    kube.create(
        "/api/v1/namespaces",
        {"metadata": {"name": name, "labels": {MINE: "true", RESTRICTED: "restricted"}}},
    )
    until(
        f"the default ServiceAccount of {name}",
        lambda: kube.get(kube.path(name, "serviceaccounts", "default")), 20, 0.1,
    )  # fmt: skip
    return name


def drop_namespace(kube: Kube, name: str) -> None:
    """Remove a namespace and all in it, without waiting for the end of it.

    The pods go first and at once: a member that is asked to leave would hand over to another.
    """
    for stateful_set in kube.list(kube.path(name, STATEFUL_SETS)):
        kube.delete(kube.path(name, STATEFUL_SETS, stateful_set["metadata"]["name"]))
    for pod in kube.list(kube.path(name, "pods")):
        kube.delete(kube.path(name, "pods", pod["metadata"]["name"]), grace=0)
    kube.delete(f"/api/v1/namespaces/{name}")


def drop_all(kube: Kube, seconds: float = 120.0) -> None:
    """Remove every namespace that a test made, and wait until they are gone."""
    selector = {"labelSelector": f"{MINE}=true"}
    names = [n["metadata"]["name"] for n in kube.list("/api/v1/namespaces", **selector)]
    if not names:
        return
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: drop_namespace(kube, name), names))
    until(
        f"namespaces {names} gone",
        lambda: not kube.list("/api/v1/namespaces", **selector), seconds, 0.5,
    )  # fmt: skip
