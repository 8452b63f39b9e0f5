"""The objects that the seed prints, to the letter, and those beside them."""

from __future__ import annotations

import pytest

from components.live.standing import Standing
from tests.component.declared import STACK, Run, declare

pytestmark = pytest.mark.component

NAME, REPLICAS = "ha-mssqlserver", "ha-mssqlserver-replicas"
SELECTOR = {
    "app.kubernetes.io/name": "mssqlserveres.kubedb.com",
    "app.kubernetes.io/instance": NAME,
}


@pytest.fixture(scope="module")
def warm() -> Run:
    return declare()


@pytest.fixture(scope="module")
def hot() -> Run:
    return declare(standbyMode="Hot")


def test_services_have_the_seeds_selectors(warm: Run) -> None:
    assert warm.spec("Service", NAME)["selector"] == {**SELECTOR, "kubedb.com/role": "primary"}
    assert warm.spec("Service", REPLICAS)["selector"] == SELECTOR


def test_a_search_by_instance_finds_the_seeds_two_services(warm: Run, hot: Run) -> None:
    for run in (warm, hot):
        labelled = {
            r.name
            for r in run.resources
            if r.kind == "Service"
            and r.inputs["metadata"]["labels"].get("app.kubernetes.io/instance") == NAME
        }
        assert labelled == {NAME, REPLICAS}


def test_services_listen_on_5432(warm: Run) -> None:
    for service in (NAME, REPLICAS):
        spec = warm.spec("Service", service)
        assert spec["type"] == "ClusterIP"
        assert [(p["port"], p["targetPort"], p["protocol"]) for p in spec["ports"]] == [
            (5432, "postgres", "TCP")
        ]


def test_only_hot_has_a_service_of_standbys(warm: Run, hot: Run) -> None:
    assert f"{NAME}-standby" not in warm.names("Service")
    assert hot.spec("Service", f"{NAME}-standby")["selector"] == {
        **SELECTOR,
        "kubedb.com/role": "replica",
    }


def test_who_is_reached_before_it_is_ready(hot: Run) -> None:
    """Peers by their stable names, and the primary by its role label alone; readers only when
    the member is ready."""
    early = {
        s for s in hot.names("Service") if hot.spec("Service", s).get("publishNotReadyAddresses")
    }
    assert early == {NAME, f"{NAME}-pods"}
    assert hot.spec("Service", f"{NAME}-pods")["clusterIP"] == "None"


def test_pods_bear_the_seeds_labels_and_no_role(warm: Run) -> None:
    spec = warm.spec("StatefulSet", NAME)
    assert spec["template"]["metadata"]["labels"] == SELECTOR
    assert spec["selector"] == {"matchLabels": SELECTOR}


def test_members(warm: Run) -> None:
    spec = warm.spec("StatefulSet", NAME)
    assert spec["replicas"] == 3
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["serviceName"] == f"{NAME}-pods"
    assert spec["volumeClaimTemplates"] == [
        {
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "standard",
            },
        }
    ]
    budget = warm.spec("PodDisruptionBudget", NAME)
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": SELECTOR}}


def test_lease_is_declared_with_metadata_only(warm: Run) -> None:
    lease = warm.one("Lease", NAME)
    assert set(lease.inputs) == {"apiVersion", "kind", "metadata"}
    assert list(lease.request.ignoreChanges) == ["spec"]
    assert set(lease.inputs["metadata"]["annotations"]) == {"pgha.dev/stack"}


def test_role_is_least_privilege(warm: Run) -> None:
    rules = warm.one("Role", NAME).inputs["rules"]
    granted = {
        (group, resource, verb): tuple(rule.get("resourceNames", ()))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    pods = tuple(f"{NAME}-{ordinal}" for ordinal in range(32))
    lease, every = "coordination.k8s.io", ()
    assert granted == {
        (lease, "leases", "get"): (NAME,),
        (lease, "leases", "list"): (NAME,),
        (lease, "leases", "watch"): (NAME,),
        (lease, "leases", "update"): (NAME,),
        (lease, "leases", "patch"): (NAME,),
        (lease, "leases", "create"): every,
        ("", "pods", "get"): every,
        ("", "pods", "list"): every,
        ("", "pods", "watch"): every,
        ("", "pods", "patch"): pods,
        ("apps", "statefulsets", "get"): (NAME,),
        ("apps", "statefulsets", "list"): (NAME,),
        ("apps", "statefulsets", "watch"): (NAME,),
        ("", "events", "create"): every,
        ("", "events", "patch"): every,
    }
    assert warm.names("ClusterRole") == warm.names("ClusterRoleBinding") == set()


def test_everything_is_in_the_namespace_and_names_its_stack(warm: Run) -> None:
    objects = [r for r in warm.resources if r.type.startswith("kubernetes:")]
    assert len(objects) == 13
    for made in objects:
        metadata = made.inputs["metadata"]
        assert metadata["namespace"] == "demo", made.name
        assert metadata["annotations"]["pgha.dev/stack"] == "pgha/test", made.name
        assert metadata["name"] == made.name


def test_the_namespace_is_nobodys(warm: Run) -> None:
    """Two stacks share `demo`: neither may take it away from the other."""
    assert warm.names("Namespace") == set()


def test_network_policy_is_made_when_asked_for(warm: Run) -> None:
    assert warm.names("NetworkPolicy") == {NAME}, "the component itself"
    run = declare(networkPolicy=True)
    policies = [
        r for r in run.resources if r.type == "kubernetes:networking.k8s.io/v1:NetworkPolicy"
    ]
    assert [p.name for p in policies] == [NAME]
    spec = policies[0].inputs["spec"]
    assert spec["podSelector"] == {"matchLabels": SELECTOR}
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    peers = [
        source
        for rule in spec["ingress"]
        for source in rule["from"]
        if 8009 in [p["port"] for p in rule["ports"]]
    ]
    assert peers == [{"podSelector": {"matchLabels": SELECTOR}}]
    assert not [p for p in warm.resources if p.type.startswith("kubernetes:networking")]


@pytest.mark.parametrize(
    ("found", "allowed"),
    [((), [443, 6443, 8443, 16443]), ((443,), [443]), ((16443, 17443), [443, 16443, 17443])],
)
def test_members_reach_each_other_dns_and_the_api_servers_endpoints(
    found: tuple[int, ...], allowed: list[int]
) -> None:
    """Where nobody could read the endpoints' ports the usual ones are allowed."""
    run = declare(Standing(STACK, api_server_ports=found), networkPolicy=True)
    policies = [
        r for r in run.resources if r.type == "kubernetes:networking.k8s.io/v1:NetworkPolicy"
    ]
    members, dns, api_server = policies[0].inputs["spec"]["egress"]
    assert members["to"] == [{"podSelector": {"matchLabels": SELECTOR}}]
    assert [p["port"] for p in members["ports"]] == [5432, 8009]
    assert "to" not in dns and "to" not in api_server
    assert {(p["protocol"], p["port"]) for p in dns["ports"]} == {
        (protocol, port) for protocol in ("TCP", "UDP") for port in (53, 5353)
    }
    assert api_server["ports"] == [{"port": port, "protocol": "TCP"} for port in allowed]
