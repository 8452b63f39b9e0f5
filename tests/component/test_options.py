"""Ownership, order, and the options that protect data: what Pulumi is told beside the objects."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pulumi.runtime import rpc

from components.live.changes import MEMBER_KEYS
from components.live.standing import LiveSecret, Standing
from tests.component.declared import STACK, Run, declare

pytestmark = pytest.mark.component

NAME = "ha-mssqlserver"
AUTH, MEMBERS, TLS = f"{NAME}-auth", f"{NAME}-members", f"{NAME}-tls"


@pytest.fixture(scope="module")
def seed() -> Run:
    return declare()


def decoded(run: Run, secret: str) -> dict[str, str]:
    data = run.one("Secret", secret).inputs["data"]
    return {key: base64.b64decode(text).decode() for key, text in data.items()}


def test_every_object_belongs_to_a_part_of_the_cluster(seed: Run) -> None:
    parts = {r.type: r for r in seed.resources if r.type.startswith("pgha:")}
    assert set(parts) == {
        f"pgha:index:{part}"
        for part in (
            "PostgresCluster Credentials Election Members Services Monitoring NetworkPolicy"
        ).split()
    }
    for part in parts.values():
        if part.type != "pgha:index:PostgresCluster":
            assert part.request.parent.endswith(f"pgha:index:PostgresCluster::{NAME}"), part.type
    owners = {
        r.kind: r.request.parent.split("::")[2].rpartition(":")[2]
        for r in seed.resources
        if r.type.startswith("kubernetes:") and r.kind != "Service"
    }
    assert owners == {
        "Lease": "Election",
        "ServiceAccount": "Election",
        "Role": "Election",
        "RoleBinding": "Election",
        "Secret": "Credentials",
        "ConfigMap": "Members",
        "StatefulSet": "Members",
        "PodDisruptionBudget": "Members",
    }


def test_no_service_is_waited_for() -> None:
    run = declare(standbyMode="Hot")
    assert len(run.names("Service")) == 4
    for name in run.names("Service"):
        annotations = run.one("Service", name).inputs["metadata"]["annotations"]
        assert annotations["pulumi.com/skipAwait"] == "true"


def test_members_come_after_their_rights_and_secrets_and_go_before(seed: Run) -> None:
    needed = {urn.rpartition("$")[2] for urn in seed.one("StatefulSet", NAME).request.dependencies}
    assert {
        f"kubernetes:coordination.k8s.io/v1:Lease::{NAME}",
        f"kubernetes:core/v1:ServiceAccount::{NAME}",
        f"kubernetes:rbac.authorization.k8s.io/v1:Role::{NAME}",
        f"kubernetes:rbac.authorization.k8s.io/v1:RoleBinding::{NAME}",
        f"kubernetes:core/v1:Secret::{AUTH}",
        f"kubernetes:core/v1:Secret::{MEMBERS}",
        f"kubernetes:core/v1:Secret::{TLS}",
        f"kubernetes:core/v1:ConfigMap::{NAME}-config",
        f"kubernetes:core/v1:Service::{NAME}-pods",
    } <= needed


def test_no_replaced_object_drags_the_members_along(seed: Run) -> None:
    """The provider replaces a ConfigMap whose data changed; a property that depended on it would
    replace the StatefulSet as well."""
    dependencies = seed.one("StatefulSet", NAME).request.propertyDependencies
    assert {key: list(d.urns) for key, d in dependencies.items() if d.urns} == {}


def test_claim_template_is_left_as_it_was(seed: Run) -> None:
    ignored = list(seed.one("StatefulSet", NAME).request.ignoreChanges)
    assert ignored == ["spec.volumeClaimTemplates"]


@pytest.mark.parametrize(
    ("policy", "claims", "secrets_stay", "protected"),
    [
        ("Halt", "Retain", True, False),
        ("Delete", "Delete", True, False),
        ("WipeOut", "Delete", False, False),
        ("DoNotTerminate", "Retain", True, True),
    ],
)
def test_deletion_policy(policy: str, claims: str, secrets_stay: bool, protected: bool) -> None:
    run = declare(deletionPolicy=policy)
    assert run.spec("StatefulSet", NAME)["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": claims,
        "whenScaled": "Retain",
    }
    for secret in (AUTH, MEMBERS, TLS):
        request = run.one("Secret", secret).request
        assert request.retainOnDelete is secrets_stay
        assert request.protect is (protected and secret == MEMBERS)
    for kind in ("StatefulSet", "Lease", "Service", "ServiceAccount", "Role"):
        assert run.one(kind, NAME).request.protect is protected, kind
    assert run.one("ConfigMap", f"{NAME}-config").request.protect is False


def test_secrets_are_stashed_once_and_stay_secret(seed: Run) -> None:
    for name in (AUTH, MEMBERS, TLS):
        stash = seed.one("Stash", name).request
        assert list(stash.ignoreChanges) == ["input"]
        raw = rpc.deserialize_properties(stash.object, keep_unknowns=True)["input"]
        assert rpc.is_rpc_secret(raw)
        secret = rpc.deserialize_properties(seed.one("Secret", name).request.object)
        assert rpc.is_rpc_secret(secret["data"])


def test_auth_secret_has_the_seeds_keys(seed: Run) -> None:
    auth = decoded(seed, AUTH)
    assert set(auth) == {"POSTGRES_USER", "POSTGRES_PASSWORD"}
    assert auth["POSTGRES_USER"] == "mssqlserver"
    assert len(auth["POSTGRES_PASSWORD"]) == 16 and auth["POSTGRES_PASSWORD"].isalnum()
    assert decoded(declare(), AUTH)["POSTGRES_PASSWORD"] != auth["POSTGRES_PASSWORD"]


def test_members_share_a_ca_and_a_certificate(seed: Run) -> None:
    members = decoded(seed, MEMBERS)
    assert set(members) == {"replicationPassword", "ca.crt", "member.crt", "member.key"}
    assert len(members["replicationPassword"]) >= 24
    ca = x509.load_pem_x509_certificate(members["ca.crt"].encode())
    member = x509.load_pem_x509_certificate(members["member.crt"].encode())
    member.verify_directly_issued_by(ca)
    hosts = member.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {f"*.{NAME}-pods.demo.svc", f"{NAME}-pods"} <= set(
        hosts.get_values_for_type(x509.DNSName)
    )
    assert member.subject.rfc4514_string() == f"CN={NAME}-member"
    assert (member.not_valid_after_utc - member.not_valid_before_utc).days >= 3650
    assert isinstance(member.public_key(), ec.EllipticCurvePublicKey)
    assert not member.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_secrets_that_were_kept_are_taken_over() -> None:
    """After Halt the data knows the old password only, and "already exists" is no error."""
    auth = {"POSTGRES_USER": "mssqlserver", "POSTGRES_PASSWORD": "MHRrOcuyddfh3YpU"}
    members = decoded(declare(), MEMBERS)
    kept = {AUTH: LiveSecret(auth, STACK), MEMBERS: LiveSecret(members, STACK)}
    run = declare(Standing(STACK, secrets=kept))
    assert decoded(run, AUTH) == auth
    again = decoded(run, MEMBERS)
    assert set(again) == set(MEMBER_KEYS)
    assert members["ca.crt"] in again["ca.crt"]
    assert {**again, "ca.crt": members["ca.crt"]} == members
    provider = run.one("kubernetes", f"{NAME}-kept")
    assert provider.inputs["upsertExistingObjects"] in (True, "true")
    for name in (AUTH, MEMBERS, TLS):
        assert f"{NAME}-kept" in run.one("Secret", name).request.provider
    assert f"{NAME}-kept" not in run.one("StatefulSet", NAME).request.provider


def test_kubeconfig_of_the_stack_is_secret_in_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way it was set: `Config.get` hands a secret over in clear."""
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({"kubernetes:kubeconfig": "{}"}))
    provider = declare().one("kubernetes", f"{NAME}-kept")
    assert provider.inputs["kubeconfig"] == "{}"
    raw = rpc.deserialize_properties(provider.request.object)
    assert rpc.is_rpc_secret(raw["kubeconfig"])


def test_kubeconfig_of_the_machine_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/one/.kube/config")
    assert "kubeconfig" not in declare().one("kubernetes", f"{NAME}-kept").inputs


def test_auth_secret_of_ones_own() -> None:
    own = {"POSTGRES_USER": "boss", "POSTGRES_PASSWORD": "s e/cret"}
    standing = Standing(STACK, secrets={"mine": LiveSecret(own, None)})
    run = declare(standing, authSecret={"name": "mine"}, username="boss")
    assert run.names("Secret") == {MEMBERS, TLS}
    assert run.names("Stash") == {"cluster", MEMBERS, f"{MEMBERS}-ca", TLS}
    assert run.outputs["secretName"] == "mine"
    assert run.outputs["dsnWrite"].startswith("postgresql://boss:s%20e%2Fcret@")
    volumes = run.spec("StatefulSet", NAME)["template"]["spec"]["volumes"]
    assert [v["secret"]["secretName"] for v in volumes if v["name"] == "auth"] == ["mine"]


def test_auth_secret_that_the_seed_prints_is_the_stacks_own() -> None:
    kept = {"POSTGRES_USER": "mssqlserver", "POSTGRES_PASSWORD": "MHRrOcuyddfh3YpU"}
    standing = Standing(STACK, secrets={AUTH: LiveSecret(kept, STACK)})
    assert AUTH in declare(authSecret={"name": AUTH}).names("Secret")
    run = declare(standing, authSecret={"name": AUTH}, deletionPolicy="WipeOut")
    assert decoded(run, AUTH) == kept, "or `up` would delete what running pods mount"


def test_auth_secret_of_that_name_may_be_somebody_elses() -> None:
    theirs = {"POSTGRES_USER": "mssqlserver", "POSTGRES_PASSWORD": "x"}
    standing = Standing(STACK, secrets={AUTH: LiveSecret(theirs, None)})
    run = declare(standing, authSecret={"name": AUTH})
    assert run.names("Secret") == {MEMBERS, TLS}
    assert ":x@" in run.outputs["dsnWrite"]


def test_one_member_has_no_failover_and_says_so(seed: Run) -> None:
    run = declare(replicas=1)
    assert run.spec("StatefulSet", NAME)["replicas"] == 1
    assert [w for w in run.warnings if "no failover" in w and NAME in w]
    assert seed.warnings == []


@pytest.mark.parametrize("storage_type", ["Durable", "Ephemeral"])
def test_a_disk_that_its_wal_fills_is_said_to_be_small(storage_type: str) -> None:
    def warnings(size: str) -> list[str]:
        storage = {"resources": {"requests": {"storage": size}}}
        run = declare(storageType=storage_type, storage=storage)
        return [w for w in run.warnings if "512MB of WAL" in w and size in w]

    assert len(warnings("1023Mi")) == 1
    assert warnings("1Gi") == []


def test_pod_monitor_where_its_kind_is_known() -> None:
    run = declare(Standing(STACK, pod_monitor_crd=True), monitor="prometheus.io/operator")
    made = run.one("PodMonitor", NAME)
    assert made.inputs["apiVersion"] == "monitoring.coreos.com/v1"
    assert made.inputs["spec"]["podMetricsEndpoints"] == [{"port": "http", "path": "/metrics"}]
    assert run.warnings == []


def test_pod_monitor_is_left_out_with_a_warning() -> None:
    run = declare(Standing(STACK), monitor="prometheus.io/operator")
    assert run.names("PodMonitor") == set()
    assert [w for w in run.warnings if "PodMonitor is left out" in w]


def test_refused_destroy_takes_nothing_away() -> None:
    """Objects that a later config may take away are not protected, so something protected has
    to go before them."""
    run = declare(
        Standing(STACK, pod_monitor_crd=True),
        deletionPolicy="DoNotTerminate",
        standbyMode="Hot",
        networkPolicy=True,
        monitor="prometheus.io/operator",
    )
    guarded = {urn for r in run.resources if r.request.protect for urn in r.request.dependencies}
    loose = [r for r in run.resources if r.type.startswith("kubernetes:") and not r.request.protect]
    assert {r.kind for r in loose} == {
        "Service", "NetworkPolicy", "PodMonitor", "ConfigMap", "Secret",
    }  # fmt: skip
    for made in loose:
        assert [u for u in guarded if u.endswith(f"{made.type}::{made.name}")], made.type
    secrets = {u for r in run.resources if r.kind == "Secret" for u in r.request.dependencies}
    assert [u for u in secrets if u.endswith(f"Stash::{AUTH}")], "the password goes after it"


def test_protected_stack_may_turn_to_secrets_of_ones_own() -> None:
    """What it made for itself is not declared then; Pulumi refuses to drop a protected object."""
    before = declare(deletionPolicy="DoNotTerminate")
    tls = decoded(before, TLS)
    own = {"POSTGRES_USER": "mssqlserver", "POSTGRES_PASSWORD": "x"}
    mine = {"mine": LiveSecret(own, None), "mine-tls": LiveSecret(tls, None)}
    after = declare(
        Standing(STACK, secrets=mine),
        deletionPolicy="DoNotTerminate",
        authSecret={"name": "mine"},
        clientTLS={"secretName": "mine-tls"},
    )
    left = {(r.type, r.name) for r in before.resources} - {
        (r.type, r.name) for r in after.resources
    }
    assert {name for _, name in left} == {AUTH, TLS}
    for made in before.resources:
        if (made.type, made.name) in left:
            assert not made.request.protect, made.name
