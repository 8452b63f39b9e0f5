"""One cluster as configured. Owns the top-level keys and the rules between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.config.client_tls import ClientTLS, is_secret_name
from components.config.clone import Clone
from components.config.election import LeaderElection
from components.config.keys import join, key
from components.config.parameters import check_parameters
from components.config.pod_template import PodTemplate, is_label_value
from components.config.quantity import quantity_bytes
from components.config.refusal import refusal
from components.config.storage import Storage

MAX_NAME = 52
"""A StatefulSet's pods bear NAME-<10 characters> as a label, and a label has at most 63."""
MAX_MEMBERS = 32
OLDEST, NEWEST = 13, 18
DELETION_POLICIES = ("Halt", "Delete", "WipeOut", "DoNotTerminate")
BUILTIN, OPERATOR = "prometheus.io/builtin", "prometheus.io/operator"
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_ROLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_ROLE_RULE = "it must be at most 63 letters, digits, '_', '.' and '-', with a letter or '_' first"
_REPLICATION_USER = "pgha_replication"
_VERSION = re.compile(r"(\d+)(\.\d+)?", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]*", re.ASCII)


def username_flaw(name: str) -> str | None:
    """Why this cannot be the superuser, as the end of a sentence; None if it can."""
    if not _is_role_name(name):
        return _ROLE_RULE
    if name.startswith("pg_"):
        return "PostgreSQL keeps names in pg_ for itself"
    if name == _REPLICATION_USER:
        return "that is the operator's own role, by which the members replicate"
    return None


def _is_role_name(name: str) -> bool:
    return len(name) <= 63 and _ROLE_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class AuthSecret:
    """`authSecret`."""

    name: str = key("string", "")
    """Name of a Secret of your own in the namespace, with the keys POSTGRES_USER and
    POSTGRES_PASSWORD, whose values count without white space at their ends; without it, and with
    NAME-auth where nobody else made that, the stack makes NAME-auth."""

    def check(self, path: str) -> None:
        if self.name and not is_secret_name(self.name):
            raise refusal(join(path, "name"), self.name, "it must be the name of a Secret")


@dataclass(frozen=True)
class ClusterConfig:
    """One stack: one PostgreSQL cluster in one environment."""

    name: str = key("string", "")
    """Name of the cluster, of its primary's Service and the prefix of all its objects; empty: the
    name of the stack. At most 52 characters. Fixed once the stack is up."""

    namespace: str = key("string", "default")
    """Namespace of the cluster; it must exist, since stacks may share it. Fixed once the stack is
    up."""

    app_name: str = key("string", "postgres")
    """Value of the label app.kubernetes.io/name. Fixed once the stack is up."""

    version: str = key("string", "17")
    """PostgreSQL's version, 13 to 18, major (17) or exact (13.13); the tag of the image
    docker.io/library/postgres. The major version is fixed once the stack is up."""

    replicas: int = key("integer", 3)
    """Members, the primary included: 1 to 32. 1 works and has no failover."""

    standby_mode: str = key("string", "Warm", ("Warm", "Hot"))
    """Warm: standbys only follow. Hot: they serve reads as well."""

    streaming_mode: str = key("string", "Asynchronous", ("Asynchronous", "Synchronous"))
    """Asynchronous: a commit waits for no standby. Synchronous: it waits for a quorum of them."""

    strict: bool = key("boolean", False)
    """Synchronous only. true: without enough standbys commits wait. false: after half of
    leaderElection.renewDeadlineSeconds without them the cluster degrades to asynchronous, which is
    recorded, and comes back by itself."""

    min_sync_replicas: int = key("integer", 1)
    """Synchronous only: standbys that must have flushed a commit before it is acknowledged; less
    than replicas."""

    quorum_failover: bool = key("boolean", False)
    """Synchronous only. true: a primary that so many standbys have lost that it can acknowledge
    nothing is replaced before its lease expires (docs/decisions/quorum-failover.md)."""

    storage_type: str = key("string", "Durable", ("Durable", "Ephemeral"))
    """Durable: a claim for each member. Ephemeral: an emptyDir that goes with its pod. Fixed once
    the stack is up."""

    storage: Storage = key(Storage)
    """The claim of each member."""

    leader_election: LeaderElection = key(LeaderElection)
    """How fast a lost primary is noticed."""

    maximum_lag_on_failover: str = key("string", "16Mi")
    """A standby that is known to lack more WAL than this is not promoted when the primary is
    lost."""

    clone: Clone = key(Clone)
    """How a new standby's copy of the primary is made."""

    auth_secret: AuthSecret = key(AuthSecret)
    """A Secret of your own for the superuser."""

    client_tls: ClientTLS = key(ClientTLS, spelled="clientTLS")
    """How clients are encrypted."""

    username: str = key("string", "postgres")
    """Superuser made by initdb; with authSecret the Secret's POSTGRES_USER counts. Fixed once the
    stack is up."""

    database: str = key("string", "postgres")
    """Database made at the first start, the one that the DSNs name. Fixed once the stack is up."""

    parameters: dict[str, str] = key("parameters by name", {})
    """PostgreSQL parameters by name, true read as on and false as off; those that the agent owns
    and those that give up durability are refused."""

    pod_template: PodTemplate = key(PodTemplate)
    """Additions to the pods."""

    deletion_policy: str = key("string", "Halt", DELETION_POLICIES)
    """What `pulumi destroy` leaves. Halt: claims and Secrets. Delete: Secrets. WipeOut: nothing.
    DoNotTerminate: destroy is refused. A change counts from the next `pulumi up` on."""

    monitor: str = key("string", "", (BUILTIN, OPERATOR))
    """prometheus.io/builtin: scrape annotations on the pods. prometheus.io/operator: a PodMonitor,
    left out with a warning where its CRD is missing. Empty: neither."""

    network_policy: bool = key("boolean", False)
    """true: only the members, and clients in the same namespace or in namespaces labelled
    pgha.dev/client=true, reach the pods, and the pods reach each other, DNS (53 and 5353)
    and the API server: 443 and the ports of the EndpointSlices of its Service default/kubernetes,
    or 6443, 8443 and 16443 where `pulumi up` may not list those."""

    image: str = key("string", "")
    """PostgreSQL image to use in place of docker.io/library/postgres:VERSION; laid out as that
    one is, and of that version."""

    operator_image: str = key("string", "docker.io/pgha/operator:dev")
    """Image of the init container that brings the agent."""

    def check(self, path: str) -> None:
        self._check_names()
        self._check_version()
        if not 1 <= self.replicas <= MAX_MEMBERS:
            raise refusal(
                "replicas", self.replicas, f"it must be a whole number from 1 to {MAX_MEMBERS}"
            )
        self._check_synchronous()
        if quantity_bytes(self.maximum_lag_on_failover) is None:
            raise refusal(
                "maximumLagOnFailover",
                self.maximum_lag_on_failover,
                "it must be a size greater than 0, as 16Mi",
            )
        if self.storage_type == "Ephemeral" and self.storage.storage_class_name:
            raise refusal(
                "storage.storageClassName",
                self.storage.storage_class_name,
                "it must be left out with storageType Ephemeral, which makes no claim",
            )
        check_parameters("parameters", self.parameters)

    def _check_names(self) -> None:
        if len(self.name) > MAX_NAME:
            raise refusal(
                "name", self.name, f"its {len(self.name)} characters must be at most {MAX_NAME}"
            )
        for name, value, pattern, longest in (
            ("name", self.name, _NAME, MAX_NAME),
            ("namespace", self.namespace, _NAMESPACE, 63),
        ):
            if len(value) > longest or not pattern.fullmatch(value):
                raise refusal(
                    name,
                    value,
                    f"it must be at most {longest} lower-case letters, digits and '-', "
                    "with a letter first and a letter or digit last",
                )
        if not self.app_name or not is_label_value(self.app_name):
            raise refusal(
                "appName",
                self.app_name,
                "it must be a label's value: at most 63 letters, digits, '-', '_' and '.', "
                "with a letter or digit at both ends",
            )
        if flaw := username_flaw(self.username):
            raise refusal("username", self.username, flaw)
        if not _is_role_name(self.database):
            raise refusal("database", self.database, _ROLE_RULE)
        for name, value in (("image", self.image), ("operatorImage", self.operator_image)):
            if value and not _IMAGE.fullmatch(value):
                raise refusal(name, value, "it must be the name of a container image")

    def _check_version(self) -> None:
        match = _VERSION.fullmatch(self.version)
        if match is None:
            raise refusal(
                "version",
                self.version,
                f"it must be a version of PostgreSQL from {OLDEST} to {NEWEST}, as 17 or 13.13",
            )
        if not OLDEST <= int(match[1]) <= NEWEST:
            raise refusal("version", self.version, f"supported are PostgreSQL {OLDEST} to {NEWEST}")

    def _check_synchronous(self) -> None:
        if self.streaming_mode == "Asynchronous":
            if self.strict:
                raise refusal("strict", True, "it needs streamingMode Synchronous")
            if self.quorum_failover:
                raise refusal("quorumFailover", True, "it needs streamingMode Synchronous")
            if self.min_sync_replicas != 1:
                raise refusal(
                    "minSyncReplicas", self.min_sync_replicas, "it needs streamingMode Synchronous"
                )
            return
        if not 1 <= self.min_sync_replicas < self.replicas:
            raise refusal(
                "minSyncReplicas",
                self.min_sync_replicas,
                f"it must be 1 or more and less than replicas, which is {self.replicas}",
            )

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def hot(self) -> bool:
        return self.standby_mode == "Hot"

    @property
    def durable(self) -> bool:
        return self.storage_type == "Durable"

    @property
    def postgres_image(self) -> str:
        return self.image or f"docker.io/library/postgres:{self.version}"

    @property
    def maximum_lag_bytes(self) -> int:
        return quantity_bytes(self.maximum_lag_on_failover) or 0

    @property
    def keeps_secrets(self) -> bool:
        """Whether `pulumi destroy` leaves the Secrets (and keeps them safe from it before)."""
        return self.deletion_policy != "WipeOut"

    @property
    def keeps_claims(self) -> bool:
        return self.deletion_policy in ("Halt", "DoNotTerminate")
