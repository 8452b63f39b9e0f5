"""Create, read, update, delete. Owns the order of calls to the cluster, and the messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.provider import awaits, checkpoint, kinds, ownership
from lab.provider.api import ApiError, Kubernetes, NoSuchKind, Unreachable
from lab.provider.differences import pruned
from lab.provider.kubeconfig import NoCluster
from lab.provider.outcome import Refused, Settings, Unfinished
from lab.provider.waiting import Calls, NotReady, Pace, Waiting
from lab.provider.wire import has_unknown, marked, revealed

Object = dict[str, Any]

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
TRIES = 5
"""How often a create looks again for a namespace or a kind that is still being made."""
PROPAGATION = {"orphan": "Orphan", "background": "Background"}


class Lifecycle:
    """The verbs that touch the cluster."""

    def __init__(
        self, settings: Settings, cluster: Callable[[], Kubernetes], calls: Calls, pace: Pace,
        waiting: Waiting,
    ) -> None:  # fmt: skip
        self._settings, self._connect = settings, cluster
        self._calls, self._pace, self._waiting = calls, pace, waiting

    async def _cluster(self) -> Kubernetes:
        try:
            return await self._calls(self._connect)
        except NoCluster as error:
            raise Refused(f"{NO_CLUSTER}: {error}") from error

    # -- create ---------------------------------------------------------------------------------

    async def create(
        self, urn: str, type_token: str, inputs: Object, timeout: float, preview: bool
    ) -> tuple[str, Object]:
        """The new resource's id and state; in a preview without what only a run can know."""
        obj = kinds.without_nulls(revealed(inputs))
        patch = kinds.is_patch(type_token, str(obj.get("kind", "")))
        if preview and (has_unknown(inputs) or patch):
            return "", inputs
        manager = self._manager(obj, f"{ownership.CREATOR}-{kinds.random_suffix(b'')}")
        upsert = patch or self._settings.upsert
        try:
            cluster = await self._cluster()
            live = await self._made(cluster, obj, manager, upsert, preview)
        except NoSuchKind as error:
            if preview:
                return "", inputs
            raise Refused(
                f'creation of resource "{urn}" failed because the Kubernetes API server reported '
                "that the apiVersion for this resource does not exist. Verify that any required "
                f"CRDs have been created: {error}"
            ) from error
        except (Unreachable, Refused) as error:
            if preview:
                return "", inputs
            raise Refused(_once(NO_CLUSTER, str(error))) from error
        except ApiError as error:
            if preview and (error.reason in ("Forbidden", "AlreadyExists") or _no_home(error)):
                return "", inputs
            more = EXISTS if error.reason == "AlreadyExists" else ""
            raise Refused(
                f'resource "{urn}" was not successfully created by the Kubernetes API server: '
                f"{_apply_error(error, manager)}{more}"
            ) from error
        if preview:
            live.pop("status", None)
            return "", checkpoint.state_of(live, obj, inputs, manager)
        try:
            live = await self._waiting.until_ready(cluster, urn, obj, live, timeout, first=True)
        except NotReady as not_ready:
            state = checkpoint.state_of(not_ready.live, obj, inputs, manager)
            raise Unfinished(
                f'resource "{urn}" was successfully created, but the Kubernetes API server '
                f"reported that it failed to fully initialize or become live: {not_ready}",
                kinds.identity(live), state, not_ready.reasons,
            ) from not_ready  # fmt: skip
        return kinds.identity(live), checkpoint.state_of(live, obj, inputs, manager)

    async def _made(
        self, cluster: Kubernetes, obj: Object, manager: str, upsert: bool, preview: bool
    ) -> Object:
        """Made by a plain create, so that of two creators one fails; or, where an object that
        exists is meant to be taken, applied."""
        for attempt in range(TRIES + 1):
            try:
                if upsert:
                    force = preview or self._force(obj)
                    return await self._calls(cluster.apply, obj, manager, force, preview)
                return await self._calls(cluster.create, obj, ownership.CREATOR, preview)
            except (ApiError, NoSuchKind) as error:
                passing = isinstance(error, NoSuchKind) or error.status == 404
                if not passing or preview or attempt == TRIES or self._pace.cancelled:
                    raise
            await self._pace.pause(0.5 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    # -- read -----------------------------------------------------------------------------------

    async def read(
        self, type_token: str, identity: str, state: Object, inputs: Object
    ) -> tuple[str, Object, Object]:
        """Id, state and inputs as they are live; an empty id for an object that is gone."""
        obj = kinds.normalized(revealed(inputs)) if inputs else {}
        known = bool(obj.get("kind"))
        namespace, _, name = identity.rpartition("/")
        target = {
            "apiVersion": obj.get("apiVersion") or kinds.api_version(type_token),
            "kind": obj.get("kind") or type_token.split(":")[-1].removesuffix("Patch"),
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        }
        try:
            cluster = await self._cluster()
            live = await self._calls(cluster.get, target)
        except NoSuchKind:
            return "", {}, {}
        except (Unreachable, Refused) as error:
            if self._settings.delete_unreachable:
                return "", {}, {}
            raise Refused(
                f"failed to read resource state due to unreachable cluster ({error}). {FORGET}"
            ) from error
        except ApiError as error:
            raise Refused(f'failed to read resource "{identity}": {error}') from error
        if live is None:
            return "", {}, {}
        live_inputs = pruned(live, obj) if known else _imported(live)
        manager = self._manager(obj, checkpoint.manager_of(state))
        found = checkpoint.state_of(live, live_inputs, inputs, manager)
        given = marked(live_inputs, inputs)
        missing = await self._unready(cluster, obj, live) if known else []
        if missing:
            name = live["metadata"]["name"]
            message = f"Resource '{name}' was created but failed to initialize"
            raise Unfinished(message, identity, found, missing, given)
        return identity or kinds.identity(live), found, given

    async def _unready(self, cluster: Kubernetes, obj: Object, live: Object) -> list[str]:
        try:
            return await self._waiting.once(cluster, obj, live)
        except (ApiError, Unreachable, NoSuchKind):
            return []  # what stands beside the object cannot be seen; the object itself was

    # -- update ---------------------------------------------------------------------------------

    async def update(
        self, urn: str, type_token: str, state: Object, inputs: Object, timeout: float,
        ignore: list[str], preview: bool,
    ) -> Object:  # fmt: skip
        """The state after the change."""
        given = revealed(inputs)
        if preview and has_unknown(given):
            return inputs
        obj = kinds.without_nulls(kinds.normalized(given))
        before = checkpoint.manager_of(state)
        manager = self._manager(obj, before)
        patch = kinds.is_patch(type_token, str(obj.get("kind", "")))
        was = checkpoint.live_of(state)
        obj["metadata"] = {**obj["metadata"], "name": was["metadata"]["name"]}
        try:
            cluster = await self._cluster()
            live = await self._applied(cluster, obj, manager, ignore, patch, preview)
            if before and before != manager and not preview:
                await self._calls(cluster.apply, _bare(live), before, False)
        except (Unreachable, Refused) as error:
            if preview:
                return inputs
            raise Refused(_once(NO_CLUSTER, str(error))) from error
        except NoSuchKind as error:
            if preview:
                return inputs
            raise Refused(
                f'update of resource "{urn}" failed because the Kubernetes API server reported '
                "that the apiVersion for this resource does not exist. Verify that any required "
                f"CRDs have been created: {error}"
            ) from error
        except ApiError as error:
            if preview and error.reason == "Forbidden":
                return inputs
            said = _apply_error(error, manager)
            raise Refused(f'update of resource "{urn}" failed: {said}') from error
        if preview:
            return checkpoint.state_of(live, obj, inputs, manager)
        try:
            live = await self._waiting.until_ready(cluster, urn, obj, live, timeout, first=False)
        except NotReady as not_ready:
            raise Unfinished(
                f'the Kubernetes API server reported that "{kinds.identity(live)}" failed to '
                f"fully initialize or become live: {not_ready}",
                kinds.identity(live),
                checkpoint.state_of(not_ready.live, obj, inputs, manager),
                not_ready.reasons,
            ) from not_ready
        return checkpoint.state_of(live, obj, inputs, manager)

    async def _applied(
        self, cluster: Kubernetes, obj: Object, manager: str, ignore: list[str], patch: bool,
        preview: bool,
    ) -> Object:  # fmt: skip
        for attempt in range(TRIES + 1):
            live = await self._calls(cluster.get, obj)
            if live is None:
                kind, name = obj["kind"], kinds.identity(obj)
                raise ApiError(404, "NotFound", f'{kind} "{name}" not found')
            entries = live["metadata"].get("managedFields") or []
            force = self._force(obj) or not entries
            if preview and ownership.made_by_create(entries):
                force = True  # the run itself will have taken those fields over
            if not preview and not patch:
                after = ownership.taken_over(entries, manager)
                try:
                    if after is not None:
                        live = await self._calls(cluster.set_managers, live, after)
                except ApiError as error:
                    if error.status != 409 or attempt == TRIES:
                        raise
                    continue  # somebody changed the object meanwhile: look again
            wanted = ownership.honoring(obj, live, manager, ignore)
            return await self._calls(cluster.apply, wanted, manager, force, preview)
        raise AssertionError("the last attempt returns or raises")

    def _manager(self, obj: Object, kept: str) -> str:
        """The field manager: the program's choice, else the one that is kept in the state."""
        return kinds.annotation(obj, "patchFieldManager") or kept or ownership.CREATOR

    def _force(self, obj: Object) -> bool:
        return self._settings.force or kinds.annotated_true(obj, "patchForce")

    # -- delete ---------------------------------------------------------------------------------

    async def delete(
        self, type_token: str, identity: str, state: Object, timeout: float
    ) -> None:
        """Returns when the object is gone; a patch only gives up its fields."""
        live, inputs = checkpoint.live_of(state), checkpoint.inputs_of(state)
        manager = self._manager(inputs, checkpoint.manager_of(state))
        try:
            cluster = await self._cluster()
            found = await self._calls(cluster.get, live)
            if found is None:
                return
            if kinds.is_patch(type_token, str(live.get("kind", ""))):
                await self._calls(cluster.apply, _bare(live), manager, False)
                return
            policy = kinds.annotation(inputs, "deletionPropagationPolicy").lower()
            propagation = PROPAGATION.get(policy, "Foreground")
            if not await self._calls(cluster.delete, live, propagation):
                return
        except NoSuchKind:
            return
        except (Unreachable, Refused) as error:
            if self._settings.delete_unreachable:
                return
            raise Refused(f"{_once(NO_CLUSTER, str(error))}. {FORGET}") from error
        except ApiError as error:
            raise Refused(_delete_error(error, identity)) from error
        if kinds.annotated_true(inputs, "skipAwait") and live["kind"] in _UNAWAITED:
            return
        seconds = timeout or awaits.limit(
            {}, 0, kinds.annotation(inputs, "timeoutSeconds")
        )
        try:
            await self._waiting.until_gone(cluster, found, seconds)
        except NotReady as not_ready:
            after = {**state, **checkpoint.state_of(not_ready.live, inputs, state, manager)}
            raise Unfinished(str(not_ready), identity, after, not_ready.reasons) from not_ready
        except ApiError as error:
            raise Refused(_delete_error(error, identity)) from error


#: Kinds whose deletion pulumi.com/skipAwait covers too, as in the official provider.
_UNAWAITED = (
    "Namespace", "Pod", "ReplicationController", "DaemonSet", "Deployment", "StatefulSet", "Job",
)  # fmt: skip


def _imported(live: Object) -> Object:
    """`pulumi import` and `.get` know the id alone: all that can be an input becomes one."""
    found = {key: value for key, value in live.items() if key != "status"}
    metadata = {k: v for k, v in live["metadata"].items() if k not in kinds.READ_ONLY}
    annotations = dict(metadata.get("annotations") or {})
    for each in ("deployment.kubernetes.io/revision",
                 "kubectl.kubernetes.io/last-applied-configuration"):  # fmt: skip
        annotations.pop(each, None)
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    return {**found, "metadata": metadata}


def _bare(live: Object) -> Object:
    """The least that an apply may send: it gives up every field of its manager."""
    metadata = {k: live["metadata"][k] for k in ("name", "namespace") if live["metadata"].get(k)}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}


def _no_home(error: ApiError) -> bool:
    """Is the namespace missing? In a preview it is then among what will be made."""
    return error.status == 404 and error.kind == "namespaces"


def _apply_error(error: ApiError, manager: str) -> str:
    if error.reason != "Conflict":
        return str(error)
    return (
        "server-side apply field conflict detected: set the annotation pulumi.com/patchForce to "
        f'take the fields over, or leave them to their manager\nThe resource managed by field '
        f'manager "{manager}" had an apply conflict: {error}'
    )


def _delete_error(error: ApiError, identity: str) -> str:
    if error.reason == "Invalid" and "Required value" in str(error):
        return (
            "this Patch resource is currently managing a required field, so it can't be deleted "
            "directly. Either set the `retainOnDelete` resource option, or transfer ownership of "
            f"the field before deleting: {error}"
        )
    return f'deletion of resource "{identity}" failed: {error}'


def _once(prefix: str, text: str) -> str:
    return text if text.startswith(prefix) else f"{prefix}: {text}"
