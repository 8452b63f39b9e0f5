"""Changes of a cluster that stands: those that would lose data are refused, growth is declared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.config.refusal import Refused
from components.config.stack import cluster_config
from components.live.changes import MEMBER_KEYS, check_changes
from components.live.standing import LiveClaim, LiveSecret, Standing
from tests.component.declared import SEED, STACK, Run, declare

pytestmark = pytest.mark.component

NAME = "ha-mssqlserver"
SIZE = "storage.resources.requests.storage"


def claim(ordinal: int, **changed: Any) -> LiveClaim:
    standard = LiveClaim(f"data-{NAME}-{ordinal}", "1Gi", "standard", False, True)
    return replace(standard, **changed)


def live(owner: str | None = STACK, claims: bool = True) -> dict[str, Any]:
    template = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "standard",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    return {
        "metadata": {
            "uid": "u-1",
            "annotations": {"pgha.dev/stack": owner} if owner else {},
        },
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": SEED["appName"]}},
            **({"volumeClaimTemplates": [template]} if claims else {}),
        },
    }


def secrets() -> dict[str, LiveSecret]:
    auth = {"POSTGRES_USER": "mssqlserver", "POSTGRES_PASSWORD": "x"}
    return {
        f"{NAME}-auth": LiveSecret(auth, STACK),
        f"{NAME}-members": LiveSecret({key: "x" for key in MEMBER_KEYS}, STACK),
    }


UP = Standing(
    STACK,
    secrets=secrets(),
    claims={f"data-{NAME}-{n}": claim(n) for n in range(3)},
    settings={"version": "13.13", "username": "mssqlserver", "database": "mssqlserver"},
    stateful_set=live(),
)
HALTED = Standing(STACK, secrets=secrets(), claims=UP.claims)


def storage(**keys: Any) -> dict[str, Any]:
    return {"storage": {**SEED["storage"], **keys}}


def sized(size: str) -> dict[str, Any]:
    return storage(resources={"requests": {"storage": size}})


def without(secret: str, key: str) -> dict[str, LiveSecret]:
    made = secrets()
    values = {k: v for k, v in made[secret].values.items() if k != key}
    return {**made, secret: LiveSecret(values, STACK)}


def fixed() -> dict[str, LiveClaim]:
    return {c.name: replace(c, expandable=False) for c in UP.claims.values()}


def own(user: str) -> dict[str, LiveSecret]:
    return {"mine": LiveSecret({"POSTGRES_USER": user, "POSTGRES_PASSWORD": "x"}, None)}


MINE = {"authSecret": {"name": "mine"}}
OWN = own("boss")
OWN_TLS = {"clientTLS": {"secretName": f"{NAME}-tls"}}
OTHER_AUTH = {f"{NAME}-auth": LiveSecret({}, "pgha/b")}

REFUSED: list[tuple[str, Standing, dict[str, Any], str]] = [
    ("shrink", UP, sized("512Mi"), f"Config key {SIZE} is 512Mi, but a claim cannot shrink"),
    ("shrink after Halt", HALTED, sized("512Mi"), "data-ha-mssqlserver-0 has 1Gi"),
    ("fixed class", replace(UP, claims=fixed()), sized("2Gi"), "does not allow expansion"),
    ("class", UP, storage(storageClassName="fast"), "must stay standard"),
    ("modes", UP, storage(accessModes=["ReadWriteMany"]), "must stay ReadWriteOnce"),
    ("storage type", UP, {"storageType": "Ephemeral", "storage": {}}, "must stay Durable"),
    (
        "storage type back",
        replace(UP, stateful_set=live(claims=False)),
        {},
        "Config key storageType is Durable, but it must stay Ephemeral",
    ),
    ("major version", UP, {"version": "15.4"}, "Config key version is 15.4, but the data is Post"),
    ("database", UP, {"database": "other"}, "must stay mssqlserver: make more databases"),
    ("user", UP, {"username": "other"}, "Config key username is other, but it must stay mssql"),
    ("user after Halt", HALTED, {"username": "other"}, "must stay mssqlserver, the superuser"),
    ("app name", UP, {"appName": "postgres"}, "Config key appName is postgres, but it must stay"),
    (
        "name",
        replace(UP, stateful_set=None, other_clusters=(("demo", "old"),)),
        {},
        "Config key name is ha-mssqlserver, but this stack already is the cluster old",
    ),
    (
        "namespace",
        replace(UP, stateful_set=None, other_clusters=(("elsewhere", NAME),)),
        {},
        "Config key namespace is demo, but this stack already is the cluster ha-mssqlserver in",
    ),
    ("other stack", replace(UP, stateful_set=live("pgha/b")), {}, "made by the stack pgha/b"),
    ("stranger", replace(UP, stateful_set=live(None)), {}, "made by somebody else"),
    ("secret of a stack", replace(HALTED, secrets=OTHER_AUTH), {}, "--overwrite pgha.dev/stack=p"),
    (
        "no password",
        replace(HALTED, secrets=without(f"{NAME}-auth", "POSTGRES_PASSWORD")),
        {},
        "Secret ha-mssqlserver-auth in namespace demo lacks the key POSTGRES_PASSWORD",
    ),
    (
        "no key",
        replace(HALTED, secrets=without(f"{NAME}-members", "member.key")),
        {},
        "Secret ha-mssqlserver-members in namespace demo lacks the key member.key",
    ),
    ("own secret missing", HALTED, MINE, "Config key authSecret.name is mine, but namespace demo"),
    (
        "own secret without user",
        replace(UP, secrets={"mine": LiveSecret({"POSTGRES_PASSWORD": "x"}, None)}),
        MINE,
        "that Secret lacks the key POSTGRES_USER",
    ),
    (
        "own secret, other user",
        Standing(STACK, secrets=OWN),
        MINE,
        "Config key username is mssqlserver, but it must be left out or be the Secret's",
    ),
    (
        "own secret, other user than the data",
        replace(UP, secrets=OWN),
        {**MINE, "username": "boss"},
        "Secret mine has POSTGRES_USER boss, but it must stay mssqlserver",
    ),
    (
        "own secret, reserved user",
        Standing(STACK, secrets=own("pg_admin")),
        {**MINE, "username": "postgres"},
        "Secret mine in namespace demo has POSTGRES_USER pg_admin, but PostgreSQL keeps names in",
    ),
    (
        "own secret, the operator's role",
        Standing(STACK, secrets=own("pgha_replication")),
        {**MINE, "username": "postgres"},
        "has POSTGRES_USER pgha_replication, but that is the operator's own role",
    ),
    (
        "own secret left, other user than the data",
        replace(UP, secrets={}, settings={**(UP.settings or {}), "username": "owner"}),
        {},
        "Config key username is mssqlserver, but it must stay owner, the superuser that the data",
    ),
    (
        "the stack's own TLS Secret before it is there",
        Standing(STACK),
        OWN_TLS,
        "has no Secret of that name: leave the key out, and the stack makes it",
    ),
    (
        "the stack's own TLS Secret",
        replace(UP, secrets={**secrets(), f"{NAME}-tls": LiveSecret({}, STACK)}),
        OWN_TLS,
        f"Config key clientTLS.secretName is {NAME}-tls, but that is the Secret which the stack",
    ),
]


@pytest.mark.parametrize(
    ("standing", "config", "sentence"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_change_is_refused(standing: Standing, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        check_changes(cluster_config({**SEED, **config}, "test"), standing)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("standing", [UP, HALTED, Standing(STACK), Standing(STACK, reached=False)])
@pytest.mark.parametrize(
    "config",
    [{}, {"replicas": 5}, {"standbyMode": "Hot"}, {"version": "13.14"}, sized("2Gi")],
    ids=["same", "replicas", "mode", "minor version", "growth"],
)
def test_change_is_allowed(standing: Standing, config: dict[str, Any]) -> None:
    check_changes(cluster_config({**SEED, **config}, "test"), standing)


def test_superuser_of_data_is_not_judged_by_its_name() -> None:
    """It cannot be another any more; and the settings may be of before its name was stripped."""
    settings = {**(UP.settings or {}), "username": "our boss\n"}
    given = cluster_config({**SEED, **MINE, "username": "postgres"}, "test")
    check_changes(given, replace(UP, secrets={**secrets(), **own("our boss")}, settings=settings))


def test_refused_change_declares_nothing() -> None:
    with pytest.raises(Refused):
        declare(UP, version="15")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"name": "other"},
            f"Config key name is other, but this stack already is the cluster {NAME}",
        ),
        ({"namespace": "prod"}, f"key namespace is prod, .* the cluster {NAME} in namespace demo"),
    ],
)
def test_stack_stays_the_cluster_that_its_state_knows(
    changed: dict[str, Any], sentence: str
) -> None:
    """A search may see the new namespace alone."""
    before = declare()
    assert list(before.one("Stash", "cluster").request.ignoreChanges) == ["input"]
    assert declare(after=before).names("StatefulSet") == {NAME}
    seen = Run()
    with pytest.raises(Refused, match=sentence):
        declare(after=before, run=seen, **changed)
    assert [(r.kind, r.name) for r in seen.resources if r.kind != "Stack"] == [("Stash", "cluster")]


def test_growth_is_a_patch_of_each_claim() -> None:
    run = declare(UP, **sized("2Gi"), replicas=4)
    assert run.names("PersistentVolumeClaimPatch") == {f"data-{NAME}-{n}" for n in range(4)}
    patch = run.one("PersistentVolumeClaimPatch", f"data-{NAME}-3")
    assert patch.inputs["kind"] == "PersistentVolumeClaim"
    assert patch.inputs["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "standard",
        "resources": {"requests": {"storage": "2Gi"}},
    }
    assert patch.inputs["metadata"]["annotations"]["pulumi.com/patchForce"] == "true"
    assert patch.request.retainOnDelete, "undoing a patch would take the size away"
    members = run.one("StatefulSet", NAME).request
    assert [u for u in members.dependencies if u.endswith(f"::data-{NAME}-3")]


def test_growth_stays_declared_after_it_was_done() -> None:
    """Or a preview right after `up` would show a change."""
    template_stays = replace(
        UP, claims={c.name: replace(c, requested="2Gi") for c in UP.claims.values()}
    )
    assert len(declare(template_stays, **sized("2Gi")).names("PersistentVolumeClaimPatch")) == 3
    after_halt = replace(
        UP, stateful_set=None, claims={c.name: claim(0, size_set=True) for c in UP.claims.values()}
    )
    assert len(declare(after_halt).names("PersistentVolumeClaimPatch")) == 3


def test_without_growth_no_claim_is_touched() -> None:
    for standing in (UP, HALTED, Standing(STACK)):
        assert declare(standing).names("PersistentVolumeClaimPatch") == set()


def test_claims_of_former_members_end_with_the_cluster() -> None:
    """A scale-down keeps claims, which the StatefulSet's retention policy then forgets."""
    left = replace(UP, former_claims=(f"data-{NAME}-3",))
    for policy in ("Delete", "WipeOut"):
        run = declare(left, deletionPolicy=policy)
        (patch,) = [r for r in run.resources if r.kind == "PersistentVolumeClaimPatch"]
        assert patch.inputs["metadata"]["name"] == f"data-{NAME}-3"
        (owner,) = patch.inputs["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("StatefulSet", NAME, "u-1")
        assert not patch.request.retainOnDelete, "Halt must be able to undo it"
        members = run.one("StatefulSet", NAME).request.dependencies
        assert [u for u in members if u.endswith(f"::data-{NAME}-3-owner")], "or it went first"
    assert declare(left).names("PersistentVolumeClaimPatch") == set()


def test_claims_of_former_members_need_a_standing_cluster() -> None:
    left = replace(HALTED, former_claims=(f"data-{NAME}-3",))
    run = declare(left, deletionPolicy="WipeOut")
    assert run.names("PersistentVolumeClaimPatch") == set()
    assert [w for w in run.warnings if f"data-{NAME}-3" in w and "once more" in w]
