"""Check and diff: names, namespaces, drift, replacement. No cluster is needed for either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.provider.api import Kubernetes
from lab.provider.checkpoint import state_of
from lab.provider.kubeconfig import NoCluster
from lab.provider.outcome import Refused, Settings, unsupported
from lab.provider.planning import Diff, Naming, Planning, provider_replacing
from lab.provider.wire import UNKNOWN, Secret
from tests.unit.lab.provider_cluster import FakeCluster, config_map

pytestmark = pytest.mark.unit

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
SECRET = "kubernetes:core/v1:Secret"
LEASE = "kubernetes:coordination.k8s.io/v1:Lease"
CUSTOM = "kubernetes:example.dev/v1:ClusterThing"
NAMING = Naming("settings", b"seed")


def nowhere() -> Kubernetes:
    raise NoCluster("there is no kubeconfig at ~/.kube/config")


def planning(cluster: Callable[[], Kubernetes] = nowhere, **settings: Any) -> Planning:
    return Planning(Settings(**settings), cluster)


def checked(type_token: str, news: dict[str, Any], olds: dict[str, Any] | None = None) -> Any:
    return planning().check(type_token, olds or {}, news, NAMING)


def diffed(
    live: dict[str, Any], old: dict[str, Any], new: dict[str, Any],
    ignore: list[str] | None = None, type_token: str = CONFIG_MAP, **settings: Any,
) -> Diff:  # fmt: skip
    state = state_of(live, old, old, "me")
    return planning(**settings).diff(type_token, state, new, ignore or [])


def test_a_given_name_and_namespace_stay() -> None:
    assert checked(CONFIG_MAP, config_map(a="1")) == config_map(a="1")


def test_an_object_without_a_name_gets_one_that_a_preview_can_tell() -> None:
    news = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "demo"}}
    metadata = checked(CONFIG_MAP, news)["metadata"]
    assert metadata["name"].startswith("settings-") and len(metadata["name"]) == 17
    assert metadata["annotations"] == {"pulumi.com/autonamed": "true"}
    assert checked(CONFIG_MAP, news)["metadata"] == metadata
    assert planning().check(CONFIG_MAP, {}, news, Naming("settings", b"x"))["metadata"] != metadata


def test_a_made_name_is_kept_and_a_given_one_is_not_adopted() -> None:
    news = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "demo"}}
    first = checked(CONFIG_MAP, news)
    assert checked(CONFIG_MAP, news, first)["metadata"]["name"] == first["metadata"]["name"]
    assert checked(CONFIG_MAP, news, config_map("given"))["metadata"]["name"] != "given"


def test_the_engine_may_propose_or_forbid_names() -> None:
    news = {"apiVersion": "v1", "kind": "ConfigMap"}
    proposed = planning().check(CONFIG_MAP, {}, news, Naming("settings", b"", "chosen"))
    assert proposed["metadata"]["name"] == "chosen"
    with pytest.raises(Refused, match="autonaming is disabled"):
        planning().check(CONFIG_MAP, {}, news, Naming("settings", disabled=True))


def test_the_namespace_is_the_contexts() -> None:
    news = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    assert checked(CONFIG_MAP, news)["metadata"]["namespace"] == "default"
    cluster = FakeCluster()
    cluster.default_namespace = "mine"
    check = planning(lambda: cluster).check
    assert check(CONFIG_MAP, {}, news, NAMING)["metadata"]["namespace"] == "mine"
    configured = planning(lambda: cluster, namespace="told").check
    assert configured(CONFIG_MAP, {}, news, NAMING)["metadata"]["namespace"] == "told"


def test_what_lives_in_no_namespace_gets_none() -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "x"}}  # fmt: skip
    token = "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole"
    assert "namespace" not in checked(token, role)["metadata"]
    thing = {"apiVersion": "example.dev/v1", "kind": "ClusterThing", "metadata": {"name": "x"}}
    assert planning(FakeCluster).check(CUSTOM, {}, thing, NAMING)["metadata"] == {"name": "x"}
    # Nobody can tell: as the official provider, take it for a namespaced kind.
    assert checked(CUSTOM, thing)["metadata"]["namespace"] == "default"


def test_what_cannot_be_declared_is_refused() -> None:
    with pytest.raises(Refused, match="list resources"):
        checked("kubernetes:core/v1:ConfigMapList", {})
    with pytest.raises(Refused, match=r"require the `.metadata.name` field"):
        checked(f"{CONFIG_MAP}Patch", {"kind": "ConfigMap", "metadata": {}})
    with pytest.raises(Refused, match="generateName"):
        checked(CONFIG_MAP, {"kind": "ConfigMap", "metadata": {"generateName": "x-"}})


def test_unknown_values_pass_through() -> None:
    news = config_map(a="1")
    news["data"] = UNKNOWN
    assert checked(CONFIG_MAP, news)["data"] is UNKNOWN
    assert checked(CONFIG_MAP, {"kind": "ConfigMap", "metadata": UNKNOWN})["metadata"] is UNKNOWN


def test_string_data_of_a_secret_becomes_its_data_and_stays_secret() -> None:
    news = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "demo"},
            "stringData": Secret({"password": "hunter2"}), "data": {"user": "bWU="}}  # fmt: skip
    found = checked(SECRET, news)
    assert "stringData" not in found
    assert found["data"] == Secret({"user": "bWU=", "password": "aHVudGVyMg=="})


def test_secrets_stay_marked() -> None:
    news = config_map(a="1")
    news["data"]["a"] = Secret("1")
    assert checked(CONFIG_MAP, news)["data"]["a"] == Secret("1")


def test_no_change() -> None:
    assert diffed(config_map(a="1"), config_map(a="1"), config_map(a="1")).changes == []


def test_drift_in_a_managed_field_shows_and_in_a_foreign_one_does_not() -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
             "metadata": {"name": "pg", "namespace": "demo", "labels": {"app": "pg"}}}  # fmt: skip
    live = {**lease, "metadata": {**lease["metadata"], "annotations": {"pgha.dev/record": "{}"}},
            "spec": {"holderIdentity": "pg-1"}}  # fmt: skip
    assert diffed(live, lease, lease, type_token=LEASE).changes == []
    live["metadata"]["labels"] = {"app": "other"}
    found = diffed(live, lease, lease, type_token=LEASE)
    assert [(c.path, c.how) for c in found.changes] == [("metadata.labels.app", "update")]
    assert found.replacing == []


def test_defaults_of_the_server_in_claim_templates_are_no_drift() -> None:
    template = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1024Mi"}}}}  # fmt: skip
    obj = {"apiVersion": "apps/v1", "kind": "StatefulSet",
           "metadata": {"name": "pg", "namespace": "demo"},
           "spec": {"volumeClaimTemplates": [template]}}  # fmt: skip
    kept = {**template, "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "spec": {**template["spec"], "volumeMode": "Filesystem",
                     "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Pending"}}  # fmt: skip
    live = {**obj, "spec": {"replicas": 1, "volumeClaimTemplates": [kept]}}
    assert diffed(live, obj, obj, type_token="kubernetes:apps/v1:StatefulSet").changes == []


def test_what_a_user_may_write_into_the_pod_template_is_no_drift() -> None:
    """podTemplate.spec passes Kubernetes' own keys on as they are."""

    def members(memory: object, cpu: object, **more: object) -> dict[str, Any]:
        container = {"name": "c", "resources": {"limits": {"memory": memory, "cpu": cpu}}}
        return {"apiVersion": "apps/v1", "kind": "StatefulSet",
                "metadata": {"name": "pg", "namespace": "demo"},
                "spec": {"template": {"spec": {"containers": [container], **more}}}}  # fmt: skip

    token = "kubernetes:apps/v1:StatefulSet"
    given = members("1024Mi", 0.5, hostNetwork=False, tolerations=[])
    sent = checked(token, given)
    assert sent == members("1Gi", "500m")
    kept = members("1Gi", "500m", restartPolicy="Always")
    assert diffed(kept, sent, sent, type_token=token).changes == []
    # After a refresh the state has the inputs as they are live.
    assert diffed(kept, members("1Gi", "500m"), given, type_token=token).changes == []
    # A state of before has the inputs as they were written.
    assert diffed(kept, given, given, type_token=token).changes == []
    found = diffed(kept, sent, members("2Gi", "500m"), type_token=token)
    assert [change.path for change in found.changes] == [
        "spec.template.spec.containers[0].resources.limits.memory"
    ]


def test_ignored_changes_are_none() -> None:
    live, old, new = config_map(a="2"), config_map(a="1"), config_map(a="1")
    assert diffed(live, old, new).changes
    assert diffed(live, old, new, ignore=["data"]).changes == []


def test_a_named_object_is_deleted_before_it_is_replaced() -> None:
    found = diffed(config_map(a="1"), config_map(a="1"), config_map(a="2"))
    assert [change.path for change in found.replacing] == ["data.a"]
    assert found.delete_first


def test_an_object_whose_name_changes_can_stand_beside_the_old_one() -> None:
    found = diffed(config_map(a="1"), config_map(a="1"), config_map("other", a="1"))
    assert [change.path for change in found.replacing] == ["metadata.name"]
    assert not found.delete_first


def test_an_autonamed_object_is_replaced_by_one_of_another_name() -> None:
    old = config_map("settings-1234abcd", a="1")
    old["metadata"]["annotations"] = {"pulumi.com/autonamed": "true"}
    new = {**old, "data": {"a": "2"}}
    found = diffed(old, old, new)
    assert found.replacing and not found.delete_first


def test_data_changes_in_place_when_the_provider_is_configured_so() -> None:
    found = diffed(
        config_map(a="1"), config_map(a="1"), config_map(a="2"), mutable_config_maps=True
    )
    assert found.changes and not found.replacing


def test_a_patch_is_replaced_for_its_target_alone() -> None:
    token = f"{CONFIG_MAP}Patch"
    found = diffed(config_map(a="1"), config_map(a="1"), config_map(a="2"), type_token=token)
    assert found.changes and not found.replacing


def test_settings_come_from_arguments_and_then_the_environment() -> None:
    given = {"upsertExistingObjects": "true", "enableSecretMutable": False, "context": "lab"}
    variables = ("PULUMI_K8S_ENABLE_SECRET_MUTABLE", "PULUMI_K8S_ENABLE_PATCH_FORCE")
    found = Settings.of(given, dict.fromkeys(variables, "true"))
    assert found.upsert and found.force and not found.mutable_secrets
    assert (found.context, found.kubeconfig) == ("lab", "")
    as_object = Settings.of({"kubeconfig": {"clusters": []}}, {})
    assert as_object.kubeconfig == '{"clusters": []}'


def test_settings_that_the_stand_in_cannot_honour_are_refused() -> None:
    assert unsupported({"context": "lab", "upsertExistingObjects": "true"}, {}) == []
    harmless = {"enableServerSideApply": "true", "skipUpdateUnreachable": False,
                "renderYamlToDirectory": "", "kubeClientSettings": "{}"}  # fmt: skip
    assert unsupported(harmless, {"PULUMI_K8S_AWAIT_ALL": "false"}) == []
    ((name, said),) = unsupported({"renderYamlToDirectory": "out"}, {})
    assert name == "renderYamlToDirectory"
    assert said.startswith("renderYamlToDirectory is out, which the lab's stand-in provider cannot")
    variables = {"PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY": "false", "PULUMI_K8S_AWAIT_ALL": "true"}
    assert [name for name, _ in unsupported({}, variables)] == ["enableServerSideApply", "awaitAll"]
    assert unsupported({}, variables)[1][1].startswith("PULUMI_K8S_AWAIT_ALL is true, which")
    # The argument decides, not the variable.
    decided = unsupported({"enableServerSideApply": True}, variables)
    assert [name for name, _ in decided] == ["awaitAll"]


CLUSTERS = {
    name: f"current-context: c\ncontexts: [{{name: c, context: {{cluster: x}}}}]\n"
    f"clusters: [{{name: x, cluster: {{server: 'https://{name}'}}}}]\n"
    for name in ("one", "two")
}


def replaced_by(olds: dict[str, Any], news: dict[str, Any]) -> list[str]:
    changed = sorted(key for key in {*olds, *news} if olds.get(key) != news.get(key))
    return provider_replacing(olds, news, changed)


def test_another_cluster_replaces_what_its_provider_made() -> None:
    one, two = ({"kubeconfig": CLUSTERS[name]} for name in ("one", "two"))
    assert replaced_by(one, two) == ["kubeconfig"]
    assert replaced_by(one, {"kubeconfig": CLUSTERS["one"] + "users: []\n"}) == []
    assert replaced_by(one, {**one, "upsertExistingObjects": "true"}) == []
    # Where the kubeconfig is not among the arguments nobody can tell.
    assert replaced_by({"context": "a"}, {"context": "b"}) == []
    assert replaced_by({}, two) == []
    assert replaced_by(one, {"kubeconfig": UNKNOWN}) == ["kubeconfig"]


def test_a_cluster_identifier_decides_alone() -> None:
    one, two = ({"kubeconfig": CLUSTERS[name]} for name in ("one", "two"))
    same, other = {"clusterIdentifier": "a"}, {"clusterIdentifier": "b"}
    assert replaced_by({**one, **same}, {**two, **same}) == []
    assert replaced_by({**one, **same}, {**one, **other}) == ["clusterIdentifier"]
    assert replaced_by(one, {**one, **same}) == []
