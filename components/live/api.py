"""Read access to the Kubernetes API while the program runs. Owns the connection; changes nothing.

The connection is the one the Kubernetes provider uses: the stack's `kubernetes:kubeconfig` and
`kubernetes:context`, else KUBECONFIG, else ~/.kube/config, else the pod's own service account.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Protocol, cast

import pulumi
import yaml

from components.config.refusal import Refused, refusal

REQUEST_SECONDS = 10.0


class Unreachable(Exception):
    """No answer from a Kubernetes API server; the text says where and why."""


class Forbidden(Exception):
    """The API server refused the request to the user of the kubeconfig."""


class Api(Protocol):
    """As much of the API as the program reads."""

    def get(self, path: str) -> dict[str, Any] | None:
        """The object or list at the path, None if there is none; raises Unreachable, Forbidden."""
        ...

    def may_create(self, group: str, resource: str, namespace: str) -> bool:
        """Whether the user of the kubeconfig may create the resource (SelfSubjectAccessReview)."""
        ...


class KubernetesApi:
    """The API of the cluster that a kubeconfig names. The client is imported when first needed."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        from kubernetes import client, config  # 0.7 s: not for a program that is refused

        load: Any = config  # the loaders carry no types
        settings = client.Configuration()
        settings.retries = 2
        try:
            if kubeconfig and ("\n" in kubeconfig or kubeconfig.lstrip().startswith("{")):
                load.load_kube_config_from_dict(
                    yaml.safe_load(kubeconfig), context=context, client_configuration=settings
                )
            elif (
                not kubeconfig
                and not context
                and "KUBERNETES_SERVICE_HOST" in os.environ
                and ("KUBECONFIG" not in os.environ)
            ):
                load.load_incluster_config(client_configuration=settings)
            else:
                load.load_kube_config(
                    config_file=os.path.expanduser(kubeconfig) if kubeconfig else None,
                    context=context,
                    client_configuration=settings,
                )
        except (config.ConfigException, OSError, yaml.YAMLError) as error:
            raise Unreachable(f"no usable kubeconfig was found ({error})") from error
        self._host = str(settings.host)
        self._client = client.ApiClient(settings)

    @classmethod
    def of_stack(cls) -> KubernetesApi:
        provider = pulumi.Config("kubernetes")
        return cls(provider.get("kubeconfig"), provider.get("context"))

    def get(self, path: str) -> dict[str, Any] | None:
        return self._call("GET", path, None)

    def may_create(self, group: str, resource: str, namespace: str) -> bool:
        attributes = {
            "group": group,
            "resource": resource,
            "verb": "create",
            "namespace": namespace,
        }
        review = self._call(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        return bool(((review or {}).get("status") or {}).get("allowed"))

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        prepared = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response: Any = self._client.call_api(*prepared, _request_timeout=REQUEST_SECONDS)
            status, data = response.status, response.read()
        except ApiException as error:
            status, data = int(error.status or 0), str(error.body or error.reason).encode()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"{self._host} does not answer ({type(error).__name__})") from error
        if status == 404:
            return None
        if status == 403:
            raise Forbidden(_message(data))
        if not 200 <= status < 300:
            raise Unreachable(f"{self._host} answered {status} to {method} {path}")
        return cast(dict[str, Any], json.loads(data))


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip()


def connect(preview: bool) -> Api | None:
    """The stack's cluster, or None in a preview without one (with a warning)."""
    if cluster := pulumi.Config("kubernetes").get("cluster"):
        raise refusal(
            "kubernetes:cluster",
            cluster,
            "the checks before a change reach the cluster of a context alone: leave the key out, "
            "and set kubernetes:context to a context of that cluster",
        )
    files = [f for f in os.environ.get("KUBECONFIG", "").split(os.pathsep) if f]
    if len(files) > 1 and not pulumi.Config("kubernetes").get("kubeconfig"):
        # The client takes the last file's current-context, pulumi-kubernetes the first one's.
        raise Refused(
            f"KUBECONFIG names {len(files)} files, of which the checks before a change could take "
            "another current-context than pulumi-kubernetes: name one, or set "
            "kubernetes:kubeconfig in the stack's config."
        )
    try:
        api = KubernetesApi.of_stack()
        api.get("/version")
        return api
    except Unreachable as error:
        sentence = f"No Kubernetes cluster can be reached: {error}"
    except Forbidden as error:
        raise Refused(f"The Kubernetes cluster refuses even its version: {error}.") from error
    if preview:
        pulumi.log.warn(f"{sentence}. This preview cannot compare with what is there.")
        return None
    raise Refused(f"{sentence}. Set KUBECONFIG, or kubernetes:kubeconfig in the stack's config.")
