"""Secrets of one cluster: the superuser's, and what the members share. Owns how they are made.

A secret is generated once and lives in a `pulumi.Stash` of the stack's state. A Secret that an
earlier life of the stack left behind (deletionPolicy Halt or Delete) is taken over with its
values: the data that was kept knows no other password. Both Secrets go through a provider of
their own with `upsertExistingObjects`, so that "already exists" is no error for them alone; that
they are this stack's was checked by live/changes.py before.
"""

from __future__ import annotations

import base64
import secrets
import string
from typing import cast

import pulumi
import pulumi_kubernetes as kubernetes

from components.certificates import member_certificates
from components.context import Context
from components.live.changes import PASSWORD, USER

PASSWORD_LENGTH = 16
"""Letters and digits: 95 bits."""


def generated_password() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(PASSWORD_LENGTH))


class Credentials(pulumi.ComponentResource):
    """The Secrets NAME-auth (unless authSecret names another) and NAME-members."""

    auth_secret: str
    user: str
    password: pulumi.Output[str] | None
    """The superuser's password, secret; None if it is in a Secret that a preview cannot read."""
    objects: list[pulumi.Resource]

    def __init__(self, name: str, context: Context, opts: pulumi.ResourceOptions) -> None:
        super().__init__("pgha:index:Credentials", name, None, opts)
        self._context = context
        self._provider = self._adopting_provider()
        names, config = context.names, context.config
        self.objects = []
        members = self._stash(names.members_secret, self._members_values())
        self._secret(names.members_secret, members)
        if config.auth_secret.name:
            self.auth_secret = config.auth_secret.name
            own = context.standing.secrets.get(self.auth_secret)
            self.user = own.values[USER] if own else config.username
            self.password = pulumi.Output.secret(own.values[PASSWORD]) if own else None
        else:
            self.auth_secret, self.user = names.auth_secret, config.username
            auth = self._stash(names.auth_secret, self._auth_values())
            self._secret(names.auth_secret, auth)
            self.password = pulumi.Output.secret(auth.apply(lambda values: values[PASSWORD]))
        self.register_outputs({"secretName": self.auth_secret})

    def _adopting_provider(self) -> kubernetes.Provider:
        stack = pulumi.Config("kubernetes")
        return kubernetes.Provider(
            f"{self._context.names.name}-kept",
            upsert_existing_objects=True,
            kubeconfig=stack.get("kubeconfig"),
            context=stack.get("context"),
            cluster=stack.get("cluster"),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _auth_values(self) -> dict[str, str]:
        kept = self._context.standing.secrets.get(self._context.names.auth_secret)
        if kept is not None:
            return {USER: kept.values[USER], PASSWORD: kept.values[PASSWORD]}
        return {USER: self._context.config.username, PASSWORD: generated_password()}

    def _members_values(self) -> dict[str, str]:
        kept = self._context.standing.secrets.get(self._context.names.members_secret)
        if kept is not None:
            return dict(kept.values)
        return {
            "replicationPassword": secrets.token_urlsafe(24),
            **member_certificates(self._context.names),
        }

    def _stash(self, name: str, values: dict[str, str]) -> pulumi.Output[dict[str, str]]:
        """The values of the run that made the stash; those of later runs are ignored."""
        stash = pulumi.Stash(
            name,
            input=pulumi.Output.secret(values),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["input"]),
        )
        return cast("pulumi.Output[dict[str, str]]", pulumi.Output.secret(stash.output))

    def _secret(self, name: str, values: pulumi.Output[dict[str, str]]) -> None:
        context = self._context
        options = pulumi.ResourceOptions.merge(
            context.options(self),
            pulumi.ResourceOptions(
                provider=self._provider, retain_on_delete=context.config.keeps_secrets
            ),
        )
        self.objects.append(
            kubernetes.core.v1.Secret(
                name,
                metadata={
                    "name": name,
                    "namespace": context.names.namespace,
                    "labels": context.names.labels,
                    "annotations": context.annotations,
                },
                type="Opaque",
                data=values.apply(
                    lambda each: {
                        key: base64.b64encode(text.encode()).decode() for key, text in each.items()
                    }
                ),
                opts=options,
            )
        )
