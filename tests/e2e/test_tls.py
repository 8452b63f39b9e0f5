"""TLS of clients on a cluster that requires it: the stack's CA, renewals, a Secret of the user's.

One stack for all, in the order of the file: the last tests put a Secret of their own in the place
of the stack's certificate. kubelet brings a changed Secret into a volume within its sync period.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509

from lab.cluster import Lab
from tests.support.deployed import Deployed, bring_up, small
from tests.support.kube import Kube
from tests.support.namespaces import drop_namespace, make_namespace
from tests.support.postgres import Cluster, Pod
from tests.support.program import Program
from tests.support.tls import OwnAuthority, served
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-tls"
NAME = "secure"
OWN = "own-tls"
HOST = f"{NAME}.{NAMESPACE}.svc"
ARRIVES_WITHIN = 150.0  # seconds: kubelet's sync period, its cache's, and the agent's look


@pytest.fixture(scope="module")
def secure(lab: Lab, kube: Kube, program: Program) -> Iterator[Deployed]:
    make_namespace(kube, NAMESPACE)
    config = small(NAMESPACE, replicas=2, standbyMode="Hot", clientTLS={"mode": "Require"})
    stack = program.stack(NAME, config)
    (deployed,) = bring_up([(stack, Cluster(lab, kube, NAMESPACE, NAME))])
    yield deployed
    drop_namespace(kube, NAMESPACE)


@pytest.fixture()
def cluster(secure: Deployed) -> Cluster:
    secure.healthy()
    return secure.cluster


@pytest.fixture()
def ca(secure: Deployed, tmp_path: Path) -> Path:
    """The output caCertificate as a file, which is what libpq wants."""
    file = tmp_path / "ca.crt"
    file.write_text(secure.stack.outputs()["caCertificate"])
    return file


def verified(cluster: Cluster, ca: Path, name: str, address: str) -> psycopg.Connection[Any]:
    """A session by a name of the cluster's DNS, which is not asked from here."""
    return cluster.connect(name, hostaddr=address, sslmode="verify-full", sslrootcert=str(ca))


def instances(cluster: Cluster) -> dict[str, tuple[str, int]]:
    return {pod.name: (pod.uid, pod.restarts) for pod in cluster.pods().values()}


def all_serve(cluster: Cluster, expected: x509.Certificate) -> bool:
    serials = {pod.name: served(pod.address).serial_number for pod in cluster.pods().values()}
    assert set(serials.values()) == {expected.serial_number}, serials
    return True


def in_secret(cluster: Cluster, name: str = f"{NAME}-tls") -> x509.Certificate:
    return x509.load_pem_x509_certificate(cluster.secret(name)["tls.crt"].encode())


def test_a_client_without_tls_is_refused(cluster: Cluster) -> None:
    with pytest.raises(psycopg.OperationalError, match="pg_hba.conf.*no encryption"):
        cluster.connect(sslmode="disable")
    with cluster.connect(sslmode="require") as session:
        row = session.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,)


def test_the_outputs_verify_every_name_of_the_cluster(
    secure: Deployed, cluster: Cluster, ca: Path
) -> None:
    pods = cluster.pods()

    def enters(name: str, pod: Pod | None = None, service: str = "") -> None:
        verified(
            cluster, ca, name, pod.address if pod else cluster.service_address(service)
        ).close()

    for name in (NAME, f"{NAME}.{NAMESPACE}", HOST, f"{HOST}.cluster.local"):
        enters(name)
    enters(f"{NAME}-replicas.{NAMESPACE}.svc", service=f"{NAME}-replicas")
    enters(f"{NAME}-standby.{NAMESPACE}.svc", service=f"{NAME}-standby")
    for pod in pods.values():
        enters(f"{pod.name}.{NAME}-pods.{NAMESPACE}.svc", pod)
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        enters("elsewhere.example")
    outputs = secure.stack.outputs(secrets=True)
    for key in ("dsnWrite", "dsnRead", "dsnService", "dsnStandby"):
        assert "sslmode=require" in outputs[key], key
    with psycopg.connect(
        outputs["dsnService"], hostaddr=cluster.service_address(), sslmode="verify-full",
        sslrootcert=str(ca),
    ) as session:  # fmt: skip
        assert session.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def test_another_ca_is_not_enough(cluster: Cluster, tmp_path: Path) -> None:
    """Not even the members' one."""
    for text in (cluster.secret(f"{NAME}-members")["ca.crt"].encode(), OwnAuthority().certificate):
        other = tmp_path / "other.crt"
        other.write_bytes(text)
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            verified(cluster, other, HOST, cluster.service_address())


def test_no_key_of_a_ca_is_in_the_cluster(secure: Deployed, cluster: Cluster) -> None:
    for name in (f"{NAME}-tls", f"{NAME}-members"):
        held = cluster.secret(name)
        assert sum("PRIVATE KEY" in text for text in held.values()) == 1
        assert {key for key, text in held.items() if "PRIVATE KEY" in text} <= {
            "tls.key", "member.key",
        }  # fmt: skip
    state = secure.stack.pulumi("stack", "export").text
    assert "caCertificate" in state and "PRIVATE KEY" not in state, "it is encrypted in the state"


def test_a_renewal_restarts_nothing_and_is_the_only_change(
    secure: Deployed, cluster: Cluster, ca: Path
) -> None:
    """A shorter life makes the certificate anew, as the last third of its life does."""
    assert secure.stack.drift() == ""
    before, pods = in_secret(cluster), instances(cluster)
    all_serve(cluster, before)
    with verified(cluster, ca, HOST, cluster.service_address()) as session:
        secure.stack.set(clientTLS={"mode": "Require", "validityDays": 30})
        secure.stack.up()
        renewed = in_secret(cluster)
        assert renewed.serial_number != before.serial_number
        assert renewed.not_valid_after_utc < before.not_valid_after_utc
        assert secure.stack.drift() == ""
        until(
            "both members with the new one", lambda: all_serve(cluster, renewed),
            ARRIVES_WITHIN, 1.0, (OSError,),
        )  # fmt: skip
        assert session.execute("SELECT 1").fetchone() == (1,), "who was in stays in"
    assert instances(cluster) == pods, "no pod was replaced, no container restarted"
    assert secure.stack.outputs()["caCertificate"] == ca.read_text(), "by the same CA"
    verified(cluster, ca, HOST, cluster.service_address()).close()
    secure.healthy()


def test_a_renewal_of_a_protected_cluster_is_an_update(secure: Deployed, cluster: Cluster) -> None:
    """DoNotTerminate protects NAME-members; if it had to be replaced it could not be renewed."""
    secret = cluster.kube.get(cluster.path("secrets", f"{NAME}-tls"))
    secure.stack.set(deletionPolicy="DoNotTerminate")
    secure.stack.up()
    secure.stack.set(clientTLS={"mode": "Require", "validityDays": 60})
    secure.stack.up()
    after = cluster.kube.get(cluster.path("secrets", f"{NAME}-tls"))
    assert secret and after and secret["data"]["tls.crt"] != after["data"]["tls.crt"]
    assert secret["metadata"]["uid"] == after["metadata"]["uid"]
    secure.stack.set(deletionPolicy="WipeOut")
    secure.stack.up()


def test_a_secret_that_is_not_there_is_refused(secure: Deployed, cluster: Cluster) -> None:
    secure.stack.set(clientTLS={"mode": "Require", "secretName": OWN})
    answer = secure.stack.try_up()
    assert answer.status != 0
    assert f"clientTLS.secretName is {OWN}, but namespace {NAMESPACE} has no Secret" in answer.text


def test_a_secret_of_ones_own_is_served_and_renewed_without_a_restart(
    secure: Deployed, cluster: Cluster, tmp_path: Path
) -> None:
    """The members go on following each other while one shows the old CA's and one the new's."""
    authority, file = OwnAuthority(), tmp_path / "own.crt"
    file.write_bytes(authority.certificate)
    path = cluster.path("secrets", OWN)
    cluster.kube.create(
        cluster.path("secrets"),
        {"metadata": {"name": OWN}, "type": "kubernetes.io/tls",
         "data": authority.secret_data(HOST)},
    )  # fmt: skip
    secure.stack.set(clientTLS={"mode": "Require", "secretName": OWN})
    secure.stack.up()
    secure.healthy()
    assert secure.stack.outputs()["caCertificate"] == authority.certificate.decode()
    verified(cluster, file, HOST, cluster.service_address()).close()
    assert cluster.kube.get(cluster.path("secrets", f"{NAME}-tls")) is None
    pods = instances(cluster)

    other = OwnAuthority()  # even the CA is another
    cluster.kube.patch(path, {"data": other.secret_data(HOST)})
    until(
        "both members with the renewed Secret",
        lambda: all_serve(cluster, in_secret(cluster, OWN)), ARRIVES_WITHIN, 1.0, (OSError,),
    )  # fmt: skip
    file.write_bytes(other.certificate)
    verified(cluster, file, HOST, cluster.service_address()).close()
    assert instances(cluster) == pods
    moved = cluster.pgha("switchover", "--to", cluster.replicas()[0].name)
    assert moved.returncode == 0, moved.stdout + moved.stderr
    secure.healthy()


def test_a_pair_that_does_not_fit_is_told_and_not_served(
    secure: Deployed, cluster: Cluster
) -> None:
    good, pods = in_secret(cluster, OWN), instances(cluster)
    half = OwnAuthority().secret_data(HOST)["tls.key"]
    cluster.kube.patch(cluster.path("secrets", OWN), {"data": {"tls.key": half}})

    def told() -> bool:
        events = cluster.kube.list(cluster.path("events"))
        about = {e["involvedObject"]["name"] for e in events
                 if e["reason"] == "CertificateUnusable"}  # fmt: skip
        assert about == set(pods), about
        return True

    until("an Event on each member", told, ARRIVES_WITHIN, 1.0)
    all_serve(cluster, good)
    assert instances(cluster) == pods
    refused = secure.stack.try_up()
    assert refused.status != 0
    assert "that Secret has in tls.key another key than that of the first" in refused.text
