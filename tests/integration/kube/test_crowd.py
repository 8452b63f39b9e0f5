"""The agents of the growth benchmark: the product's own, against a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.crowd import Crowd, Orders
from tests.integration.kube.apiserver import AGENT_TOKEN, NAMESPACE, ApiServer
from tests.support.waiting import until

pytestmark = pytest.mark.integration

MEMBERS = 3


def make_objects(kube: ApiServer, name: str) -> list[str]:
    """What a stack and its controller make; the UIDs of the pods."""
    labels = {"app.kubernetes.io/name": "postgres", "app.kubernetes.io/instance": name}
    rights: Any = {"apiGroup": "rbac.authorization.k8s.io"}
    kube.admin.request(
        "POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings",
        {"metadata": {"name": name}, "subjects": [{**rights, "kind": "User", "name": "agent"}],
         "roleRef": {**rights, "kind": "ClusterRole", "name": "cluster-admin"}},
    )  # fmt: skip
    kube.admin.request(
        "POST", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases",
        {"metadata": {"name": name}},
    )  # fmt: skip
    spec = {"containers": [{"name": "postgres", "image": "nothing"}]}
    kube.admin.request(
        "POST", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
        {"metadata": {"name": name},
         "spec": {"replicas": MEMBERS, "serviceName": name, "selector": {"matchLabels": labels},
                  "template": {"metadata": {"labels": labels}, "spec": spec}}},
    )  # fmt: skip
    pods: Any = [kube.pod(f"{name}-{n}", labels=labels) for n in range(MEMBERS)]
    return [pod["metadata"]["uid"] for pod in pods]


def test_a_cluster_of_the_crowd_is_born_and_fails_over(kube: ApiServer, tmp_path: Path) -> None:
    settings = {"name": "crowd", "namespace": NAMESPACE, "appName": "postgres", "version": "17"}
    uids = make_objects(kube, "crowd")
    crowd = Crowd(tmp_path)
    crowd.make(
        Orders(kube.url, str(kube.ca), [settings], [AGENT_TOKEN], MEMBERS, [uids], str(tmp_path))
    )
    crowd.start()
    until("one primary, two standbys", lambda: crowd.look()["whole"] == 1, 60, 0.2)
    before = crowd.clusters[0].primary()
    outages = crowd.strike(0.1)["outages"]
    assert outages[0] is not None and outages[0] < 15, outages
    assert crowd.clusters[0].primary() not in (None, before)
    until("two standbys again", lambda: crowd.look()["whole"] == 1, 60, 0.2)
    seen = crowd.look()
    assert seen["calls"]["PUT"] > 0 and seen["calls"]["PATCH"] > 0 and not seen["failures"]
    for agent in crowd.clusters[0].agents:
        agent._finish()
        agent.wake()
