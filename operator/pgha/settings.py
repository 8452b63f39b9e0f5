"""What the stack declared for this cluster, as the agent reads it. Owns no decision.

Source: `settings.json` of the ConfigMap `NAME-config`, and the environment that the pod
template sets (POD_NAME, POD_UID, POD_NAMESPACE, POD_IP, PGDATA).
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SettingsError(ValueError):
    """A setting that the agent cannot run with; the text names the key, the value, the remedy."""


@dataclass(frozen=True)
class Times:
    """The three durations of the election, in seconds (client-go's leaderelection)."""

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        if not self.lease_duration > self.renew_deadline > 1.2 * self.retry_period > 0:
            raise SettingsError(
                f"leaderElection is {self.lease_duration}/{self.renew_deadline}/"
                f"{self.retry_period}: leaseDurationSeconds must exceed renewDeadlineSeconds, "
                "and that 1.2 times retryPeriodSeconds"
            )

    @property
    def renew_every(self) -> float:
        """Seconds between renewals while all goes well."""
        return self.lease_duration / 3

    @property
    def degrade_after(self) -> float:
        """Seconds without enough standbys after which non-strict Synchronous mode gives in: half
        of what the primary itself may be silent for before it is given up."""
        return self.renew_deadline / 2

    @property
    def fence_after(self) -> float:
        """Seconds after the start of the last good renewal at which the fencer has killed."""
        return self.renew_deadline + (self.lease_duration - self.renew_deadline) / 2


@dataclass(frozen=True)
class Settings:
    """One cluster as declared. Sizes in bytes, durations in seconds."""

    name: str
    namespace: str
    app_name: str
    version: str
    hot: bool = False
    synchronous: bool = False
    strict: bool = False
    min_sync_replicas: int = 1
    quorum_failover: bool = False
    times: Times = field(default_factory=Times)
    maximum_lag: int = 16 * 1024 * 1024
    clone_max_rate: int | None = None  # bytes a second
    username: str = "postgres"
    database: str = "postgres"
    parameters: Mapping[str, str] = field(default_factory=dict)
    monitor: str | None = None
    require_tls: bool = False

    @property
    def early(self) -> bool:
        """May the lease be taken from a primary that cannot acknowledge any more?"""
        return self.quorum_failover and self.synchronous

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def member(self, ordinal: int) -> str:
        return f"{self.name}-{ordinal}"

    def host(self, member: str) -> str:
        """The stable DNS name of a member, through the headless Service."""
        return f"{member}.{self.name}-pods.{self.namespace}.svc"

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Settings:
        try:
            times = given.get("leaderElection") or {}
            return cls(
                name=str(given["name"]),
                namespace=str(given["namespace"]),
                app_name=str(given["appName"]),
                version=str(given["version"]),
                hot=given.get("standbyMode", "Warm") == "Hot",
                synchronous=given.get("streamingMode", "Asynchronous") == "Synchronous",
                strict=bool(given.get("strict", False)),
                min_sync_replicas=int(given.get("minSyncReplicas", 1)),
                quorum_failover=bool(given.get("quorumFailover", False)),
                times=Times(
                    float(times.get("leaseDurationSeconds", 15)),
                    float(times.get("renewDeadlineSeconds", 10)),
                    float(times.get("retryPeriodSeconds", 2)),
                ),
                maximum_lag=int(given.get("maximumLagOnFailover", 16 * 1024 * 1024)),
                clone_max_rate=_bytes((given.get("clone") or {}).get("maxRate")),
                username=str(given.get("username", "postgres")),
                database=str(given.get("database", "postgres")),
                parameters={str(k): str(v) for k, v in (given.get("parameters") or {}).items()},
                monitor=given.get("monitor"),
                require_tls=given.get("clientTLS", "Prefer") == "Require",
            )
        except KeyError as e:
            raise SettingsError(f"settings.json has no {e}: run `pulumi up` again") from e

    @classmethod
    def read(cls, path: Path) -> Settings:
        try:
            return cls.parse(json.loads(path.read_text()))
        except (OSError, json.JSONDecodeError) as e:
            raise SettingsError(f"{path} cannot be read ({e}): run `pulumi up` again") from e


def _bytes(given: Any) -> int | None:
    return None if given is None else int(given)


def ordinal(member: str) -> int:
    """The StatefulSet ordinal at the end of a pod's name."""
    return int(member.rpartition("-")[2])


@dataclass(frozen=True)
class Identity:
    """Who this agent is: pod name + pod UID + container start (law, point 5)."""

    pod: str
    uid: str
    start: str

    @property
    def incarnation(self) -> str:
        """As written into the Lease's holderIdentity and the container's termination message."""
        return f"{self.pod}/{self.uid}/{self.start}"

    @classmethod
    def of_this_container(cls) -> Identity:
        return cls(os.environ["POD_NAME"], os.environ["POD_UID"], secrets.token_hex(6))


def pod_of(incarnation: str | None) -> str | None:
    """The pod's name in a holder identity, or None when nobody holds."""
    return incarnation.split("/", 1)[0] if incarnation else None
