"""What a user reads when a verb fails. Owns the sentences; pure.

The phrases that a search would look for are the official provider's; the advice around them is
shorter here.
"""

from __future__ import annotations

from lab.provider.api import ApiError

NO_CLUSTER = "configured Kubernetes cluster is unreachable"
FORGET = (
    'If the cluster was deleted, you can remove this resource from Pulumi state by rerunning the '
    'operation with the PULUMI_K8S_DELETE_UNREACHABLE environment variable set to "true"'
)
EXISTS = """

The resource already exists in the cluster. This can happen when a Pulumi resource was renamed \
(give it an alias), when the object was made by somebody else (import it, or manage fields of it \
with a Patch resource), or when it is meant to be adopted (set upsertExistingObjects on the \
provider)."""
IMMUTABLE = "field is immutable"


def no_cluster(error: Exception) -> str:
    text = str(error)
    return text if text.startswith(NO_CLUSTER) else f"{NO_CLUSTER}: {text}"


def not_created(urn: str, error: ApiError, manager: str) -> str:
    more = EXISTS if error.reason == "AlreadyExists" else ""
    return (
        f'resource "{urn}" was not successfully created by the Kubernetes API server: '
        f"{refused_apply(error, manager)}{more}"
    )


def no_such_kind(verb: str, urn: str, error: Exception) -> str:
    return (
        f'{verb} of resource "{urn}" failed because the Kubernetes API server reported that the '
        "apiVersion for this resource does not exist. Verify that any required CRDs have been "
        f"created: {error}"
    )


def not_live(urn: str, why: Exception) -> str:
    """A create whose object is there but whose await failed."""
    return (
        f'resource "{urn}" was successfully created, but the Kubernetes API server reported that '
        f"it failed to fully initialize or become live: {why}"
    )


def not_updated(identity: str, why: Exception | str) -> str:
    """An update that failed, by a refusal or in its await, of an object that is there."""
    return (
        f'the Kubernetes API server reported that "{identity}" failed to fully initialize or '
        f"become live: {why}"
    )


def lost(urn: str, why: str, unread: str) -> str:
    """An update that failed, of an object that cannot even be read."""
    return f'update of resource "{urn}" failed: {why}\nunable to get cluster state: {unread}'


def refused_apply(error: ApiError, manager: str) -> str:
    if error.reason != "Conflict":
        return str(error)
    return (
        "server-side apply field conflict detected: set the annotation pulumi.com/patchForce to "
        f'take the fields over, or leave them to their manager\nThe resource managed by field '
        f'manager "{manager}" had an apply conflict: {error}'
    )


def not_deleted(error: ApiError) -> str:
    if error.reason == "Invalid" and "Required value" in str(error):
        return (
            "this Patch resource is currently managing a required field, so it can't be deleted "
            "directly. Either set the `retainOnDelete` resource option, or transfer ownership of "
            f"the field before deleting: {error}"
        )
    return str(error)


def missing_namespace(error: ApiError) -> bool:
    """Does the object's namespace not exist? In a preview it is then among what will be made."""
    return error.status == 404 and error.kind == "namespaces"
