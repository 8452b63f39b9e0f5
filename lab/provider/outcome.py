"""What a verb can end with beside success, and what it works with. Owns the provider's settings."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Say = Callable[[str, str], Awaitable[None]]
"""(urn, text): a line in the Info column of the engine's display."""


class Refused(Exception):
    """The verb failed and nothing was recorded; the text is for the user."""


class Unfinished(Exception):
    """The object is there but not ready: the engine keeps `state` and tries again next time."""

    def __init__(
        self,
        message: str,
        identity: str,
        state: dict[str, Any],
        reasons: list[str],
        inputs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.identity, self.state, self.inputs = identity, state, inputs
        self.reasons = [message, *reasons]


@dataclass(frozen=True)
class Settings:
    """The provider's own configuration, as the official one names it."""

    kubeconfig: str = ""
    context: str = ""
    cluster: str = ""
    namespace: str = ""
    upsert: bool = False
    force: bool = False
    mutable_config_maps: bool = False
    mutable_secrets: bool = False
    delete_unreachable: bool = False

    @staticmethod
    def of(given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
        """From the provider's arguments; where one is not given, from PULUMI_K8S_… variables."""

        def text(name: str) -> str:
            value = given.get(name)
            if isinstance(value, Mapping):
                return json.dumps(value)  # a kubeconfig may be given as an object
            return value if isinstance(value, str) else ""

        def flag(name: str, variable: str) -> bool:
            value = given.get(name, environment.get(f"PULUMI_K8S_{variable}", ""))
            return str(value).lower() == "true"

        return Settings(
            kubeconfig=text("kubeconfig"),
            context=text("context"),
            cluster=text("cluster"),
            namespace=text("namespace"),
            upsert=flag("upsertExistingObjects", "UPSERT_EXISTING_OBJECTS"),
            force=flag("enablePatchForce", "ENABLE_PATCH_FORCE"),
            mutable_config_maps=flag("enableConfigMapMutable", "ENABLE_CONFIGMAP_MUTABLE"),
            mutable_secrets=flag("enableSecretMutable", "ENABLE_SECRET_MUTABLE"),
            delete_unreachable=flag("deleteUnreachable", "DELETE_UNREACHABLE"),
        )

    def mutable(self, kind: object) -> bool:
        """May the data of such an object change in place?"""
        return (kind == "ConfigMap" and self.mutable_config_maps) or (
            kind == "Secret" and self.mutable_secrets
        )


def unsupported(
    given: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> list[tuple[str, str]]:
    """Settings of the official provider that would change what happens here: (name, sentence).

    None is ignored in silence. Rates, warnings and Helm's settings change nothing for objects.
    """
    found = []
    for name, variable, harmless in _UNSUPPORTED:
        value = given.get(name)
        if value is None and variable:
            value = environment.get(variable)
        if value is not None and str(value).lower() not in harmless:
            source = name if given.get(name) is not None else variable
            found.append((
                name,
                f"{source} is {value}, which the lab's stand-in provider cannot do: "
                "leave it out, or use the official provider, LAB_PROVIDER=official",
            ))  # fmt: skip
    return found


_OFF = ("", "false")
#: (argument, variable of the environment, the values that change nothing).
_UNSUPPORTED = (
    ("alwaysRender", "", _OFF),
    ("enableServerSideApply", "PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY", ("", "true")),
    ("rejectUnknownResources", "", _OFF),
    ("renderYamlToDirectory", "", ("",)),
    ("skipUpdateUnreachable", "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE", _OFF),
    ("strictMode", "", _OFF),
    ("awaitAll", "PULUMI_K8S_AWAIT_ALL", _OFF),
)
