"""What is read of a live cluster before anything is declared, from a fake API server."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from components.config.refusal import Refused
from components.config.stack import cluster_config
from components.live.api import Forbidden, connect
from components.live.standing import Standing, read_standing
from tests.component.declared import SEED, STACK

pytestmark = pytest.mark.component

NAMESPACE = "/api/v1/namespaces/demo"
STATEFUL_SETS = "/apis/apps/v1/namespaces/demo/statefulsets"
SLICES = (
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    "?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"
)
EVERYWHERE = "/apis/apps/v1/statefulsets?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dpgha"


class FakeApi:
    """Objects by path; a path in `closed` is refused."""

    def __init__(
        self,
        objects: Mapping[str, Any],
        closed: tuple[str, ...] = (),
        denied: tuple[str, ...] = (),
    ) -> None:
        self.objects, self.closed, self.denied = objects, closed, denied

    def get(self, path: str) -> dict[str, Any] | None:
        if path in self.closed:
            raise Forbidden(f"cannot get {path}")
        return self.objects.get(path)

    def may_create(self, group: str, resource: str, namespace: str) -> bool:
        return resource not in self.denied


def read(objects: Mapping[str, Any], **api: Any) -> Standing:
    live = FakeApi({NAMESPACE: {}, **objects}, **api)
    return read_standing(live, cluster_config(SEED, "test"), STACK)


def test_nothing_stands() -> None:
    assert read({}) == Standing(STACK)


def test_namespace_is_missing() -> None:
    with pytest.raises(Refused, match="^Namespace demo does not exist: make it with `kubectl"):
        read_standing(FakeApi({}), cluster_config(SEED, "test"), STACK)


def test_namespace_that_may_not_be_read_is_used() -> None:
    assert read({}, closed=(NAMESPACE,)) == Standing(STACK)


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        ("leases", "leases in API group coordination.k8s.io in namespace demo"),
        ("secrets", "secrets in namespace demo"),
        ("statefulsets", "statefulsets in API group apps in namespace demo"),
    ],
)
def test_missing_right_names_verb_and_resource(resource: str, where: str) -> None:
    with pytest.raises(Refused) as refused:
        read({}, denied=(resource,))
    assert where in str(refused.value)
    assert f"verb create on the resource {resource}" in str(refused.value)


def test_refused_read_is_one_sentence() -> None:
    with pytest.raises(Refused, match="was refused: cannot get .*secrets/ha-mssqlserver-auth.$"):
        read({}, closed=(f"{NAMESPACE}/secrets/ha-mssqlserver-auth",))


def test_secrets_claims_and_settings_are_read() -> None:
    def claim(ordinal: int) -> dict[str, Any]:
        return {
            "metadata": {"name": f"data-ha-mssqlserver-{ordinal}"},
            "spec": {
                "storageClassName": "standard",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }

    other_claim = {"metadata": {"name": "data-ha-mssqlserver-x-1"}, "spec": {}}
    standing = read(
        {
            f"{NAMESPACE}/secrets/ha-mssqlserver-auth": {
                "metadata": {"annotations": {"pgha.dev/stack": STACK}},
                "data": {"POSTGRES_USER": base64.b64encode(b"me").decode()},
            },
            f"{NAMESPACE}/persistentvolumeclaims": {
                "items": [claim(1), claim(3), claim(4), other_claim]
            },
            "/apis/storage.k8s.io/v1/storageclasses/standard": {"allowVolumeExpansion": True},
            f"{NAMESPACE}/configmaps/ha-mssqlserver-config": {
                "data": {"settings.json": json.dumps({"version": "13.13"})}
            },
            "/apis/monitoring.coreos.com/v1": {"resources": [{"kind": "PodMonitor"}]},
        }
    )
    secret = standing.secrets["ha-mssqlserver-auth"]
    assert (secret.values, secret.stack) == ({"POSTGRES_USER": "me"}, STACK)
    assert standing.former_claims == ("data-ha-mssqlserver-3", "data-ha-mssqlserver-4")
    (made,) = standing.claims.values()
    assert made.name == "data-ha-mssqlserver-1"
    assert (made.requested, made.storage_class, made.expandable) == ("1Gi", "standard", True)
    assert standing.settings == {"version": "13.13"}
    assert standing.pod_monitor_crd


def test_superuser_is_read_as_the_agent_reads_it() -> None:
    """Without the newline that `kubectl create secret --from-file` leaves in."""
    data = {"POSTGRES_USER": "me\n", "POSTGRES_PASSWORD": "x \n", "ca.crt": "PEM\n"}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    path = f"{NAMESPACE}/secrets/ha-mssqlserver-auth"
    secret = read({path: {"metadata": {}, "data": encoded}}).secrets["ha-mssqlserver-auth"]
    assert secret.values == {"POSTGRES_USER": "me", "POSTGRES_PASSWORD": "x", "ca.crt": "PEM\n"}


def test_settings_broken_by_hand_are_no_settings() -> None:
    broken = {"data": {"settings.json": "{"}}
    assert read({f"{NAMESPACE}/configmaps/ha-mssqlserver-config": broken}).settings is None


@pytest.mark.parametrize("everywhere", [True, False])
def test_other_clusters_of_the_stack_are_found(everywhere: bool) -> None:
    """By a search of all namespaces, or of this one where that is not allowed."""
    mine = {"name": "old", "namespace": "demo", "annotations": {"pgha.dev/stack": STACK}}
    other = {"name": "far", "namespace": "demo", "annotations": {"pgha.dev/stack": "pgha/b"}}
    here = f"{STATEFUL_SETS}?{EVERYWHERE.partition('?')[2]}"
    listed = {"items": [{"metadata": mine}, {"metadata": other}]}
    standing = read(
        {EVERYWHERE if everywhere else here: listed}, closed=() if everywhere else (EVERYWHERE,)
    )
    assert standing.other_clusters == (("demo", "old"),)


@pytest.mark.parametrize(
    ("wanted", "closed", "ports"),
    [(True, (), (16443, 17443)), (True, (SLICES,), ()), (False, (), ())],
    ids=["wanted", "forbidden", "no policy"],
)
def test_the_api_servers_ports_are_read_for_the_network_policy(
    wanted: bool, closed: tuple[str, ...], ports: tuple[int, ...]
) -> None:
    """Those of the endpoints, in the same order whatever the order of the slices."""
    of_two: list[Any] = [[{"name": "https", "port": n}] for n in (17443, 16443)]
    slices = [{"ports": listed} for listed in (*of_two, None, [{}])]
    live = FakeApi({NAMESPACE: {}, SLICES: {"items": slices}}, closed=closed)
    config = cluster_config({**SEED, "networkPolicy": wanted}, "test")
    assert read_standing(live, config, STACK).api_server_ports == ports


def test_refused_search_is_one_sentence() -> None:
    here = f"{STATEFUL_SETS}?{EVERYWHERE.partition('?')[2]}"
    with pytest.raises(Refused, match="^Reading what stands .* was refused: cannot get .*$"):
        read({}, closed=(EVERYWHERE, here))


def test_a_cluster_beside_the_context_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """pulumi-kubernetes would change that one, and the checks read the context's."""
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({"kubernetes:cluster": "far"}))
    monkeypatch.setenv("KUBECONFIG", "/tmp/none")
    with pytest.raises(Refused, match="^Config key kubernetes:cluster is far, but .*:context to a"):
        connect(preview=True)


def test_a_list_of_kubeconfigs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks could read another cluster than pulumi-kubernetes changes."""
    monkeypatch.setenv("KUBECONFIG", "/tmp/none-a:/tmp/none-b")
    with pytest.raises(Refused, match="names 2 files"):
        connect(preview=True)
