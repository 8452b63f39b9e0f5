"""Secrets of one cluster: the superuser's, what the members share, the server's certificate. Owns
how they are made.

A secret is generated once and lives in a `pulumi.Stash` of the stack's state; the keys of CAs live
nowhere else. A Secret that an earlier life of the stack left behind (deletionPolicy Halt or Delete)
is taken over with its values: the data that was kept knows no other password, and clients trust no
other CA. The Secrets go through a provider of their own with `upsertExistingObjects`, so that
"already exists" is no error for them alone (that they are this stack's was checked by
live/changes.py before), and with `enableSecretMutable`, so that a renewed certificate is an update
in place, which the protected NAME-members allows too, and not a Secret that is away for a while.
"""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Mapping
from typing import Any, cast

import pulumi
import pulumi_kubernetes as kubernetes

from components.certificates import Served, for_members, for_server, new_authority, served
from components.context import Context
from components.live.given_auth import given_auth, superuser
from components.live.given_tls import flaw
from components.live.standing import PASSWORD, USER

PASSWORD_LENGTH = 16
"""Letters and digits: 95 bits."""


def generated_password() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(PASSWORD_LENGTH))


class Credentials(pulumi.ComponentResource):
    """The Secrets NAME-auth (unless authSecret names another), NAME-members, and NAME-tls (unless
    clientTLS.secretName names another)."""

    auth_secret: str
    tls_secret: str
    ca_certificate: pulumi.Output[str] | None
    """PEM, public: what clients trust; None if it is in a Secret that a preview cannot read."""
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
        self._declare_members()
        self._declare_tls()
        self.user = superuser(config, context.standing)
        if given := given_auth(config, context.standing):
            self.auth_secret = given
            own = context.standing.secrets.get(given)
            self.password = pulumi.Output.secret(own.values[PASSWORD]) if own else None
        else:
            self.auth_secret = names.auth_secret
            auth = self._stash(names.auth_secret, self._auth_values())
            self._secret(names.auth_secret, auth, protected=False)
            self.password = pulumi.Output.secret(auth.apply(lambda values: values[PASSWORD]))
        self.register_outputs({"secretName": self.auth_secret})

    def _adopting_provider(self) -> kubernetes.Provider:
        stack = pulumi.Config("kubernetes")
        given = stack.get_secret("kubeconfig") if stack.get("kubeconfig") else None
        return kubernetes.Provider(
            f"{self._context.names.name}-kept",
            upsert_existing_objects=True,
            enable_secret_mutable=True,
            kubeconfig=given,
            context=stack.get("context"),
            opts=pulumi.ResourceOptions(
                parent=self, transformations=[] if given is not None else [_without_kubeconfig]
            ),
        )

    def _auth_values(self) -> dict[str, str]:
        kept = self._context.standing.secrets.get(self._context.names.auth_secret)
        if kept is not None:
            return {USER: kept.values[USER], PASSWORD: kept.values[PASSWORD]}
        return {USER: self._context.config.username, PASSWORD: generated_password()}

    def _declare_members(self) -> None:
        """A stash of before the CA was kept holds a certificate, as a Secret that was kept does."""
        names, now = self._context.names, self._context.now
        kept = self._context.standing.secrets.get(names.members_secret)
        generated = {"replicationPassword": secrets.token_urlsafe(24)}
        values = self._stash(names.members_secret, dict(kept.values) if kept else generated)
        authority = self._stash(f"{names.members_secret}-ca", new_authority(names, now))

        def members(both: list[dict[str, str]]) -> dict[str, str]:
            own, ca = both
            made = served(ca, for_members(names), now, _kept(own, "member"))
            return {
                "replicationPassword": own["replicationPassword"],
                "ca.crt": made.ca,
                "member.crt": made.certificate,
                "member.key": made.key,
            }

        together: pulumi.Output[Any] = pulumi.Output.all(values, authority)
        self._secret(names.members_secret, together.apply(members))

    def _declare_tls(self) -> None:
        names, now, given = self._context.names, self._context.now, self._context.config.client_tls
        self.tls_secret = given.secret_name or names.tls_secret
        found = self._context.standing.secrets.get(self.tls_secret)
        if given.secret_name:
            self.ca_certificate = (
                pulumi.Output.from_input(found.values["ca.crt"]) if found else None
            )
            return
        kept = {} if found is None or flaw(found.values) else dict(found.values)
        authority = self._stash(names.tls_secret, {**new_authority(names, now), **kept})

        def tls(own: dict[str, str]) -> dict[str, str]:
            wanted = for_server(names, given.validity_days)
            made = served(own, wanted, now, _kept(own, "tls"))
            return {"ca.crt": made.ca, "tls.crt": made.certificate, "tls.key": made.key}

        values = authority.apply(tls)
        self.ca_certificate = pulumi.Output.unsecret(values.apply(lambda each: each["ca.crt"]))
        self._secret(names.tls_secret, values, protected=False)

    def _stash(self, name: str, values: dict[str, str]) -> pulumi.Output[dict[str, str]]:
        """The values of the run that made the stash; those of later runs are ignored."""
        stash = pulumi.Stash(
            name,
            input=pulumi.Output.secret(values),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["input"]),
        )
        return cast("pulumi.Output[dict[str, str]]", pulumi.Output.secret(stash.output))

    def _secret(
        self, name: str, values: pulumi.Output[dict[str, str]], protected: bool = True
    ) -> None:
        """Not protected: one that a Secret of the user's may replace. A destroy that is refused
        does not come to it, since the protected StatefulSet depends on it."""
        context = self._context
        options = pulumi.ResourceOptions.merge(
            context.options(self, protected),
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
                    # Each life of a stack is another field manager, and meets the former one's.
                    "annotations": {**context.annotations, "pulumi.com/patchForce": "true"},
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


def _without_kubeconfig(
    args: pulumi.ResourceTransformationArgs,
) -> pulumi.ResourceTransformationResult:
    """The SDK fills in KUBECONFIG's value, a path of this machine, and the state would record it.
    The plugin reads the variable by itself."""
    props = {key: value for key, value in args.props.items() if key != "kubeconfig"}
    return pulumi.ResourceTransformationResult(props, args.opts)


def _kept(values: Mapping[str, str], name: str) -> Served | None:
    """The certificate that an earlier life left in the values, if one did."""
    if f"{name}.crt" not in values:
        return None
    return Served(values["ca.crt"], values[f"{name}.crt"], values[f"{name}.key"])
