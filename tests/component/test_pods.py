"""The members' pod: what the agent finds in it, and what a user may add."""

from __future__ import annotations

from typing import Any

import pytest

from tests.component.declared import Run, declare

pytestmark = pytest.mark.component

NAME = "ha-mssqlserver"


def template(run: Run) -> Any:
    return run.spec("StatefulSet", NAME)["template"]


def postgres(run: Run) -> Any:
    (container,) = template(run)["spec"]["containers"]
    return container


@pytest.fixture(scope="module")
def seed() -> Run:
    return declare()


def test_the_stock_image_runs_the_agent(seed: Run) -> None:
    container = postgres(seed)
    assert container["image"] == "docker.io/library/postgres:13.13"
    assert container["command"] == ["/pgha/bin/pgha", "agent"]
    assert container["imagePullPolicy"] == "IfNotPresent"
    (init,) = template(seed)["spec"]["initContainers"]
    assert init["image"] == "docker.io/pgha/operator:dev"
    assert init["command"] == ["/pgha/bin/pgha", "install", "/operator"]


def test_images_can_be_ones_own() -> None:
    run = declare(image="registry.example/pg:13", operatorImage="registry.example/pgha:1")
    assert postgres(run)["image"] == "registry.example/pg:13"
    assert template(run)["spec"]["initContainers"][0]["image"] == "registry.example/pgha:1"


def test_mounts_are_where_the_agent_looks(seed: Run) -> None:
    mounts = {m["mountPath"]: m["name"] for m in postgres(seed)["volumeMounts"]}
    assert mounts == {
        "/pgha": "operator",
        "/var/lib/postgresql/data": "data",
        "/run/pgha": "run",
        "/tmp": "tmp",
        "/dev/shm": "shm",
        "/etc/pgha/config": "config",
        "/etc/pgha/auth": "auth",
        "/etc/pgha/members": "members",
        "/etc/pgha/tls": "tls",
    }
    volumes = {v["name"]: v for v in template(seed)["spec"]["volumes"]}
    assert set(volumes) == set(mounts.values()) - {"data"}
    assert volumes["run"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}
    assert volumes["config"]["configMap"]["name"] == f"{NAME}-config"
    assert volumes["auth"]["secret"]["secretName"] == f"{NAME}-auth"
    assert volumes["members"]["secret"]["secretName"] == f"{NAME}-members"
    assert volumes["tls"]["secret"] == {"secretName": f"{NAME}-tls", "defaultMode": 0o440}


def test_environment_and_ports(seed: Run) -> None:
    container = postgres(seed)
    paths = {
        e["name"]: e.get("value") or e["valueFrom"]["fieldRef"]["fieldPath"]
        for e in container["env"]
    }
    assert paths == {
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "PGDATA": "/var/lib/postgresql/data/pgdata",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",
    }
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"postgres": 5432, "peers": 8009, "http": 8008}


def test_probes(seed: Run) -> None:
    container = postgres(seed)
    assert container["readinessProbe"] == {
        "httpGet": {"path": "/readyz", "port": "http"},
        "periodSeconds": 1,
        "timeoutSeconds": 2,
        "failureThreshold": 3,
    }
    assert container["livenessProbe"] == {
        "httpGet": {"path": "/livez", "port": "http"},
        "periodSeconds": 5,
        "timeoutSeconds": 3,
        "failureThreshold": 6,
    }
    assert template(seed)["spec"]["terminationGracePeriodSeconds"] == 60


def test_pod_security_is_restricted(seed: Run) -> None:
    spec = template(seed)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 999
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"] + spec["initContainers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
    assert "shareProcessNamespace" not in spec and "hostPID" not in spec
    assert spec["serviceAccountName"] == NAME


def test_settings_roll_the_pods_and_scaling_does_not(seed: Run) -> None:
    def settings(run: Run) -> Any:
        return template(run)["metadata"]["annotations"]["pgha.dev/settings"]

    assert settings(declare(replicas=5)) == settings(seed)
    assert template(declare(replicas=5)) == template(seed)
    assert settings(declare(standbyMode="Hot")) != settings(seed)
    assert settings(declare(parameters={"work_mem": "8MB"})) != settings(seed)


def test_members_prefer_nodes_of_their_own(seed: Run) -> None:
    (term,) = template(seed)["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "mssqlserveres.kubedb.com",
        "app.kubernetes.io/instance": NAME,
    }


def test_pod_template_is_passed_on() -> None:
    given: dict[str, Any] = {
        "metadata": {"labels": {"team": "data"}, "annotations": {"note": "x"}},
        "controller": {"labels": {"tier": "db"}, "annotations": {"owner": "me"}},
        "spec": {
            "resources": {"limits": {"memory": "1Gi"}},
            "affinity": {"nodeAffinity": {"x": 1}},
            "tolerations": [{"key": "db", "operator": "Exists"}],
            "nodeSelector": {"disk": "ssd"},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}],
            "priorityClassName": "high",
            "imagePullSecrets": [{"name": "registry"}],
        },
    }
    run = declare(podTemplate=given)
    made = template(run)
    assert made["metadata"]["labels"]["team"] == "data"
    assert made["metadata"]["labels"]["app.kubernetes.io/instance"] == NAME
    assert made["metadata"]["annotations"]["note"] == "x"
    for key in set(given["spec"]) - {"resources"}:
        assert made["spec"][key] == given["spec"][key], key
    assert postgres(run)["resources"] == given["spec"]["resources"]
    metadata = run.one("StatefulSet", NAME).inputs["metadata"]
    assert (metadata["labels"]["tier"], metadata["annotations"]["owner"]) == ("db", "me")


@pytest.mark.parametrize(("size", "expected"), [("", {}), ("2Gi", {"sizeLimit": "2Gi"})])
def test_ephemeral_makes_no_claim(size: str, expected: dict[str, str]) -> None:
    run = declare(storageType="Ephemeral", storage={"resources": {"requests": {"storage": size}}})
    spec = run.spec("StatefulSet", NAME)
    assert "volumeClaimTemplates" not in spec
    assert "persistentVolumeClaimRetentionPolicy" not in spec
    (data,) = [v for v in spec["template"]["spec"]["volumes"] if v["name"] == "data"]
    assert data["emptyDir"] == expected


def test_builtin_monitoring_annotates_the_pods(seed: Run) -> None:
    scraped = template(declare(monitor="prometheus.io/builtin"))["metadata"]["annotations"]
    assert scraped["prometheus.io/scrape"] == "true"
    assert scraped["prometheus.io/port"] == "8008"
    assert scraped["prometheus.io/path"] == "/metrics"
    assert not [k for k in template(seed)["metadata"]["annotations"] if k.startswith("prom")]
