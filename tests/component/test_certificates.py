"""The stack's CAs and certificates: what is in them, when they are renewed, and what is not moved
by a renewal. The clock is the test's."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pulumi.runtime import rpc

from components.certificates import Served, Wanted, is_due, new_authority, served
from components.config.refusal import Refused
from components.config.stack import cluster_config
from components.live.changes import check_changes
from components.live.standing import LiveSecret, Standing
from components.naming import Names
from tests.component.declared import SEED, STACK, Run, declare

pytestmark = pytest.mark.component

NAME = "ha-mssqlserver"
MEMBERS, TLS = f"{NAME}-members", f"{NAME}-tls"
START = datetime(2026, 1, 1, 12, 30, 15, 987654, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = Names(NAME, "demo", "postgres")
SERVER = Wanted("db", ("db", "db.demo.svc"), 90)


def decoded(run: Run, secret: str) -> dict[str, str]:
    data = run.one("Secret", secret).inputs["data"]
    return {key: base64.b64decode(text).decode() for key, text in data.items()}


def read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def hosts(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def public(key: Any) -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_bytes(*form))


def issued_by_us(made: Served) -> x509.Certificate:
    """The certificate, which fits its key and is signed by the first CA."""
    certificate = read(made.certificate)
    certificate.verify_directly_issued_by(read(made.ca))
    key = serialization.load_pem_private_key(made.key.encode(), None)
    assert public(key.public_key()) == public(certificate.public_key())
    return certificate


@pytest.fixture(scope="module")
def first() -> Run:
    return declare(now=START)


# -- when ---------------------------------------------------------------------------------------


def test_the_same_turn_gives_the_same_bytes() -> None:
    ca = new_authority(NAMES, START)
    made = served(ca, SERVER, START)
    for passed in (timedelta(0), timedelta(hours=7), 59 * DAY):
        assert served(ca, SERVER, START + passed) == made


def test_the_last_third_of_its_life_is_the_next_ones_turn() -> None:
    ca = new_authority(NAMES, START)
    old = served(ca, SERVER, START + 60 * DAY - timedelta(minutes=1))
    new = served(ca, SERVER, START + 60 * DAY)
    assert new.ca == old.ca
    was, now = issued_by_us(old), issued_by_us(new)
    assert was.not_valid_after_utc - START >= 90 * DAY - timedelta(seconds=1)
    assert now.not_valid_after_utc - was.not_valid_after_utc == 60 * DAY
    assert now.serial_number != was.serial_number
    assert public(now.public_key()) != public(was.public_key())


@pytest.mark.parametrize("days", [0, 1, 59, 60, 61, 400, 4000])
def test_whenever_it_is_asked_for_a_third_of_its_life_is_left(days: int) -> None:
    ca, now = new_authority(NAMES, START), START + days * DAY
    certificate = issued_by_us(served(ca, SERVER, now))
    assert certificate.not_valid_before_utc <= now - DAY, "nodes' clocks may be behind"
    assert certificate.not_valid_after_utc - now >= 30 * DAY - timedelta(seconds=2)
    assert not is_due(certificate.public_bytes(serialization.Encoding.PEM).decode(), now)
    assert certificate.not_valid_after_utc < read(ca["authority.crt"]).not_valid_after_utc


def test_a_clock_that_was_set_back_makes_nothing_new() -> None:
    ca = new_authority(NAMES, START)
    assert served(ca, SERVER, START - 10 * DAY) == served(ca, SERVER, START)


def test_another_content_is_another_serial_number() -> None:
    """A CA gives each number once (RFC 5280, 4.1.2.2)."""
    ca = new_authority(NAMES, START)
    longer = Wanted(SERVER.common_name, SERVER.hosts, 91)
    more = Wanted(SERVER.common_name, (*SERVER.hosts, "x"), 90)
    made = [read(served(ca, each, START).certificate) for each in (SERVER, longer, more)]
    assert len({certificate.serial_number for certificate in made}) == 3


def test_keys_of_two_authorities_differ() -> None:
    one, other = (served(new_authority(NAMES, START), SERVER, START) for _ in range(2))
    assert one.key != other.key
    assert read(one.ca).subject != read(other.ca).subject, "they can stand in one bundle"


# -- what a renewal moves -----------------------------------------------------------------------


def everything(run: Run) -> dict[tuple[str, str], Any]:
    made = {}
    for each in run.resources:
        if each.kind not in ("Stash", "Stack"):  # a stash's input is ignored
            made[each.type, each.name] = each.inputs
    return made


def test_no_change_before_a_certificate_is_due(first: Run) -> None:
    later = declare(now=START + 549 * DAY, after=first)
    assert everything(later) == everything(first)
    assert later.outputs == first.outputs


@pytest.mark.parametrize(
    ("days", "renewed"),
    [(551, {TLS}), (2432, {TLS}), (2434, {TLS, MEMBERS}), (9000, {TLS, MEMBERS})],
)
def test_a_renewal_changes_secrets_alone(first: Run, days: int, renewed: set[str]) -> None:
    """No pod template, no CA, no output: nothing restarts, and clients go on trusting."""
    later = declare(now=START + days * DAY, after=first)
    was, now = everything(first), everything(later)
    assert was.keys() == now.keys()
    assert {name for kind, name in was if was[kind, name] != now[kind, name]} == renewed
    assert later.outputs == first.outputs
    for name in renewed:
        old, new = decoded(first, name), decoded(later, name)
        same = {key for key in old if old[key] == new[key]}
        assert same == {"ca.crt"} | ({"replicationPassword"} if name == MEMBERS else set())


def test_a_renewal_is_an_update_in_place(first: Run) -> None:
    """Else the Secret would be away for a while, and a protected one could not be renewed."""
    provider = first.one("kubernetes", f"{NAME}-kept")
    assert provider.inputs["enableSecretMutable"] in (True, "true")
    for name in (MEMBERS, TLS):
        assert f"{NAME}-kept" in first.one("Secret", name).request.provider


def test_a_later_life_of_the_stack_may_change_what_the_former_one_left(first: Run) -> None:
    """Its field manager is another, and the CAs in a Secret that was kept are another list."""
    for name in (f"{NAME}-auth", MEMBERS, TLS):
        annotations = first.one("Secret", name).inputs["metadata"]["annotations"]
        assert annotations["pulumi.com/patchForce"] == "true"


# -- the members' -------------------------------------------------------------------------------


def test_keys_of_authorities_are_in_the_state_alone(first: Run) -> None:
    stashes = [r for r in first.resources if r.kind == "Stash" and r.name != "cluster"]
    keys = {s.name: s.inputs["input"]["authority.key"] for s in stashes if s.name != f"{NAME}-auth"
            and "authority.key" in s.inputs["input"]}  # fmt: skip
    assert set(keys) == {TLS, f"{MEMBERS}-ca"}
    for stash in stashes:
        raw = rpc.deserialize_properties(stash.request.object, keep_unknowns=True)["input"]
        assert rpc.is_rpc_secret(raw)
        assert list(stash.request.ignoreChanges) == ["input"]
    shown = str([decoded(first, s) for s in first.names("Secret")]) + str(first.outputs)
    for key in keys.values():
        assert key.splitlines()[1] not in shown


def earlier_life() -> dict[str, str]:
    """NAME-members as a run left it whose CA's key is lost."""
    return {**decoded(declare(now=START), MEMBERS), "replicationPassword": "kept"}


def test_a_kept_certificate_serves_until_it_is_due_and_the_new_ca_is_trusted_before() -> None:
    kept = earlier_life()
    standing = Standing(STACK, secrets={MEMBERS: LiveSecret(kept, STACK)})
    first = declare(standing, now=START + DAY)
    second = declare(standing, now=START + 2400 * DAY, after=first)
    third = declare(standing, now=START + 2440 * DAY, after=first)
    before, still, after = (decoded(run, MEMBERS) for run in (first, second, third))
    assert before == still
    assert {k: v for k, v in before.items() if k != "ca.crt"} == {
        k: v for k, v in kept.items() if k != "ca.crt"
    }
    assert kept["ca.crt"] in before["ca.crt"]
    assert after["ca.crt"] == before["ca.crt"], "whoever has not seen the new files is trusted"
    assert after["replicationPassword"] == "kept"
    assert after["member.crt"] != kept["member.crt"]
    issued_by_us(Served(after["ca.crt"], after["member.crt"], after["member.key"]))


def test_a_state_of_before_the_ca_was_kept_goes_on_likewise() -> None:
    """Its stash has the certificate, and no CA's key is anywhere."""
    old = Run()
    kept = earlier_life()
    stash = declare(now=START).one("Stash", MEMBERS)
    old.resources.append(type(stash)(stash.type, stash.name, {"input": kept}, stash.request))
    members = decoded(declare(now=START + DAY, after=old), MEMBERS)
    assert members["member.crt"] == kept["member.crt"]
    bundle = x509.load_pem_x509_certificates(members["ca.crt"].encode())
    assert len(bundle) == 2


def test_cas_of_many_lives_do_not_pile_up() -> None:
    kept = earlier_life()
    for life in range(3):
        standing = Standing(STACK, secrets={MEMBERS: LiveSecret(kept, STACK)})
        kept = decoded(declare(standing, now=START + life * DAY), MEMBERS)
    assert len(x509.load_pem_x509_certificates(kept["ca.crt"].encode())) == 2


def test_a_kept_certificate_that_is_none_is_replaced() -> None:
    kept = {**earlier_life(), "member.crt": "nonsense", "ca.crt": "nonsense"}
    standing = Standing(STACK, secrets={MEMBERS: LiveSecret(kept, STACK)})
    members = decoded(declare(standing, now=START), MEMBERS)
    issued_by_us(Served(members["ca.crt"], members["member.crt"], members["member.key"]))
    assert "nonsense" not in members["ca.crt"]


# -- the clients' -------------------------------------------------------------------------------


def test_the_servers_certificate_bears_every_name_that_clients_use(first: Run) -> None:
    tls = decoded(first, TLS)
    assert set(tls) == {"ca.crt", "tls.crt", "tls.key"}
    certificate = issued_by_us(Served(tls["ca.crt"], tls["tls.crt"], tls["tls.key"]))
    for service in (NAME, f"{NAME}-replicas", f"{NAME}-standby", f"*.{NAME}-pods"):
        for end in ("", ".demo", ".demo.svc", ".demo.svc.cluster.local"):
            assert f"{service}{end}" in hosts(certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [each.dotted_string for each in usage] == ["1.3.6.1.5.5.7.3.1"], "servers only"


def test_neither_ca_vouches_for_the_others(first: Run) -> None:
    assert decoded(first, TLS)["ca.crt"] != decoded(first, MEMBERS)["ca.crt"]


def test_names_of_any_length_fit() -> None:
    run = declare(now=START, name="x" * 52)
    assert len(hosts(read(decoded(run, f"{'x' * 52}-tls")["tls.crt"]))) == 16


def test_clients_are_told_whom_to_trust(first: Run) -> None:
    assert first.outputs["caCertificate"] == decoded(first, TLS)["ca.crt"]
    assert "caCertificate" not in first.secret_outputs


def test_a_clients_ca_outlives_halt() -> None:
    """Clients that have the CA of the earlier life connect, and learn of the new one in time."""
    first = declare(now=START)
    standing = Standing(STACK, secrets={TLS: LiveSecret(decoded(first, TLS), STACK)})
    second = declare(standing, now=START + DAY)
    assert decoded(second, TLS)["tls.crt"] == decoded(first, TLS)["tls.crt"]
    assert decoded(first, TLS)["ca.crt"] in second.outputs["caCertificate"]
    third = declare(now=START + 600 * DAY, after=second)
    assert third.outputs == second.outputs
    assert decoded(third, TLS)["tls.crt"] != decoded(first, TLS)["tls.crt"]


def test_a_shorter_life_is_a_new_certificate(first: Run) -> None:
    shorter = declare(now=START, after=first, clientTLS={"validityDays": 30})
    made = read(decoded(shorter, TLS)["tls.crt"])
    assert made.not_valid_after_utc - START <= 30 * DAY
    assert decoded(shorter, TLS)["ca.crt"] == decoded(first, TLS)["ca.crt"]


def test_require_says_so_to_clients_and_members(first: Run) -> None:
    run = declare(clientTLS={"mode": "Require"}, standbyMode="Hot")
    for key in ("dsnWrite", "dsnRead", "dsnService", "dsnStandby"):
        assert "sslmode=require" in run.outputs[key], key
    assert (
        '"clientTLS": "Require"'
        in run.one("ConfigMap", f"{NAME}-config").inputs["data"]["settings.json"]
    )
    assert not [key for key, value in first.outputs.items() if "sslmode" in str(value)]


# -- a Secret of the user's ---------------------------------------------------------------------


def own_secret(key: Any = None, signer: Any = None) -> dict[str, str]:
    """As cert-manager makes one: the CA's certificate stands beside the server's."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = signer or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "own")])
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    certificates = [
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(each.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(START)
        .not_valid_after(START + 90 * DAY).sign(signer, algorithm)
        .public_bytes(serialization.Encoding.PEM).decode()
        for each in (signer, key)
    ]  # fmt: skip
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"ca.crt": certificates[0], "tls.crt": certificates[1], "tls.key": pem.decode()}


OWN = own_secret()
MINE = {"clientTLS": {"secretName": "mine"}}


def standing_with(values: dict[str, str] | None) -> Standing:
    return Standing(STACK, secrets={} if values is None else {"mine": LiveSecret(values, None)})


def test_a_secret_of_ones_own_is_mounted_and_nothing_made() -> None:
    run = declare(standing_with(OWN), **MINE)
    assert run.names("Secret") == {MEMBERS, f"{NAME}-auth"}
    assert run.outputs["caCertificate"] == OWN["ca.crt"]
    volumes = run.spec("StatefulSet", NAME)["template"]["spec"]["volumes"]
    assert [v["secret"]["secretName"] for v in volumes if v["name"] == "tls"] == ["mine"]


def test_a_preview_without_a_cluster_tells_no_ca() -> None:
    run = declare(Standing(STACK, reached=False), **MINE)
    assert "caCertificate" not in run.outputs


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (None, "namespace demo has no Secret of that name"),
        ({**OWN, "tls.key": ""}, "that Secret lacks the key tls.key"),
        ({k: v for k, v in OWN.items() if k != "ca.crt"}, "that Secret lacks the key ca.crt"),
        ({**OWN, "tls.crt": "x"}, "that Secret has no PEM certificate in tls.crt"),
        ({**OWN, "ca.crt": "x"}, "that Secret has no PEM certificate in ca.crt"),
        ({**OWN, "tls.key": "x"}, "that Secret has no PEM private key without a passphrase"),
        ({**OWN, "tls.key": own_secret()["tls.key"]}, "has in tls.key another key than that of"),
        (own_secret(signer=ed25519.Ed25519PrivateKey.generate()), "signed by Ed25519 or Ed448"),
    ],
    ids=["missing", "no key", "no ca", "bad crt", "bad ca", "bad key", "other key", "ed25519"],
)
def test_a_secret_that_cannot_be_served_is_refused(
    values: dict[str, str] | None, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        check_changes(cluster_config({**SEED, **MINE}, "test"), standing_with(values))
    assert str(refused.value).startswith("Config key clientTLS.secretName is mine, but ")
    assert sentence in str(refused.value)


def test_a_good_secret_is_not_refused() -> None:
    config = cluster_config({**SEED, **MINE}, "test")
    check_changes(config, standing_with(OWN))
    check_changes(config, standing_with(own_secret(key=ed25519.Ed25519PrivateKey.generate())))


def test_a_tls_secret_of_another_stack_is_not_taken() -> None:
    standing = Standing(STACK, secrets={TLS: LiveSecret(OWN, "pgha/b")})
    with pytest.raises(Refused, match=f"Secret {TLS} in namespace demo was made by the stack pgha"):
        check_changes(cluster_config(SEED, "test"), standing)
