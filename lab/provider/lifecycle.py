"""Create, read, update, delete. Owns the order of calls to the cluster.

What a failure is called is in `wording`, what the state holds in `checkpoint`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.provider import awaits, checkpoint, kinds, ownership, wording
from lab.provider.api import ApiError, Kubernetes, NoSuchKind, Unreachable
from lab.provider.differences import pruned
from lab.provider.kubeconfig import NoCluster
from lab.provider.normal import normalized, without_nulls
from lab.provider.outcome import Refused, Settings, Unfinished
from lab.provider.waiting import Calls, NotReady, Pace, Waiting
from lab.provider.wire import has_unknown, marked, revealed

Object = dict[str, Any]

TRIES = 5
"""How often a create looks again for a namespace or a kind that is still being made."""
FIRST_RETRY_SECONDS = 1.0
"""The pause before the first of them; each further one is twice as long."""
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
            raise Refused(wording.no_cluster(error)) from error

    # -- create ---------------------------------------------------------------------------------

    async def create(
        self, urn: str, type_token: str, inputs: Object, timeout: float, preview: bool
    ) -> tuple[str, Object]:
        """The new resource's id and state; in a preview without what only a run can know."""
        obj = without_nulls(revealed(inputs))
        patch = kinds.is_patch(type_token, str(obj.get("kind", "")))
        if preview and (has_unknown(inputs) or patch):
            return "", inputs
        manager = self._manager(obj, f"{ownership.CREATOR}-{kinds.random_suffix(b'')}")
        upsert = patch or self._settings.upsert
        try:
            cluster = await self._cluster()
            live = await self._made(cluster, urn, obj, manager, upsert, preview)
        except NoSuchKind as error:
            if preview:
                return "", inputs
            raise Refused(wording.no_such_kind("creation", urn, error)) from error
        except (Unreachable, Refused) as error:
            if preview:
                return "", inputs
            raise Refused(wording.no_cluster(error)) from error
        except ApiError as error:
            by_dry_run_alone = error.reason in ("Forbidden", "AlreadyExists")
            if preview and (by_dry_run_alone or wording.missing_namespace(error)):
                return "", inputs
            raise Refused(wording.not_created(urn, error, manager)) from error
        if preview:
            live.pop("status", None)
            return "", checkpoint.state_of(live, obj, inputs, manager)
        try:
            live = await self._waiting.until_ready(cluster, urn, obj, live, timeout, first=True)
        except NotReady as not_ready:
            state = checkpoint.state_of(not_ready.live, obj, inputs, manager)
            raise Unfinished(
                wording.not_live(urn, not_ready), kinds.identity(live), state, not_ready.reasons
            ) from not_ready
        return kinds.identity(live), checkpoint.state_of(live, obj, inputs, manager)

    async def _made(
        self, cluster: Kubernetes, urn: str, obj: Object, manager: str, upsert: bool,
        preview: bool,
    ) -> Object:  # fmt: skip
        """Made by a plain create, so that of two creators one fails; or, where an object that
        exists is meant to be taken, applied. A namespace or a kind may still be in the making."""
        for attempt in range(TRIES + 1):
            try:
                if not upsert:
                    return await self._calls(cluster.create, obj, ownership.CREATOR, preview)
                return await self._adopted(cluster, obj, manager, preview)
            except (ApiError, NoSuchKind) as error:
                passing = isinstance(error, NoSuchKind) or error.status == 404
                if not passing or preview or attempt == TRIES or self._pace.cancelled:
                    raise
                await self._waiting.say(urn, f"Retry #{attempt}; creation failed: {error}")
            await self._pace.pause(FIRST_RETRY_SECONDS * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _adopted(
        self, cluster: Kubernetes, obj: Object, manager: str, preview: bool
    ) -> Object:
        force = preview or self._force(obj)
        try:
            return await self._calls(cluster.apply, obj, manager, force, preview)
        except ApiError as error:
            if not (preview and error.reason == "Invalid" and wording.IMMUTABLE in str(error)):
                raise
        # What stands will be replaced: the dry run is made beside it, under another name.
        beside = {**obj["metadata"], "name": f"{obj['metadata']['name']}{kinds.random_suffix(b'')}"}
        return await self._calls(
            cluster.apply, {**obj, "metadata": beside}, manager, force, preview
        )

    # -- read -----------------------------------------------------------------------------------

    async def read(
        self, type_token: str, identity: str, state: Object, inputs: Object
    ) -> tuple[str, Object, Object]:
        """Id, state and inputs as they are live; an empty id for an object that is gone."""
        obj = normalized(revealed(inputs)) if inputs else {}
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
                f"failed to read resource state due to unreachable cluster ({error}). "
                f"{wording.FORGET}"
            ) from error
        except ApiError as error:
            raise Refused(f'failed to read resource "{identity}": {error}') from error
        if live is None:
            return "", {}, {}
        live_inputs = pruned(live, obj) if known else checkpoint.imported(live)
        manager = self._manager(obj, checkpoint.manager_of(state))
        version = checkpoint.initial_version_of(state)
        found = checkpoint.state_of(live, live_inputs, inputs, manager, version)
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
        """The state after the change.

        A change that is refused ends as one whose await failed does: the new inputs are kept
        beside the object as it is, so the next update shows and tries the rest again.
        """
        given = revealed(inputs)
        if preview and has_unknown(given):
            return inputs
        obj = without_nulls(normalized(given))
        before, was = checkpoint.manager_of(state), checkpoint.live_of(state)
        manager, version = self._manager(obj, before), checkpoint.initial_version_of(state)
        patch = kinds.is_patch(type_token, str(obj.get("kind", "")))
        obj["metadata"] = {**obj["metadata"], "name": was["metadata"]["name"]}
        try:
            cluster = await self._cluster()
            live = await self._applied(cluster, obj, manager, ignore, patch, preview)
        except (Unreachable, Refused) as error:
            if preview:
                return inputs
            raise Refused(wording.no_cluster(error)) from error
        except NoSuchKind as error:
            if preview:
                return inputs
            raise Refused(wording.no_such_kind("update", urn, error)) from error
        except ApiError as error:
            if preview and error.reason == "Forbidden":
                return inputs
            why = wording.refused_apply(error, manager)
            live = await self._still_there(cluster, urn, was, why)
            left = checkpoint.state_of(live, obj, inputs, manager, version)
            identity = kinds.identity(live)
            raise Unfinished(wording.not_updated(identity, why), identity, left, []) from error
        if preview:
            return checkpoint.state_of(live, obj, inputs, manager, version)
        try:
            live = await self._waiting.until_ready(cluster, urn, obj, live, timeout, first=False)
        except NotReady as not_ready:
            identity = kinds.identity(live)
            raise Unfinished(
                wording.not_updated(identity, not_ready), identity,
                checkpoint.state_of(not_ready.live, obj, inputs, manager, version),
                not_ready.reasons,
            ) from not_ready  # fmt: skip
        if before and before != manager:
            await self._relinquished(cluster, urn, live, before)
        return checkpoint.state_of(live, obj, inputs, manager, version)

    async def _still_there(
        self, cluster: Kubernetes, urn: str, was: Object, why: str
    ) -> Object:
        """The object as it is after a change of it was refused."""
        try:
            live = await self._calls(cluster.get, was)
        except (ApiError, Unreachable, NoSuchKind) as error:
            raise Refused(wording.lost(urn, why, str(error))) from error
        if live is None:
            gone = f'{was["kind"]} "{kinds.identity(was)}" not found'
            raise Refused(wording.lost(urn, why, gone))
        return live

    async def _relinquished(
        self, cluster: Kubernetes, urn: str, live: Object, manager: str
    ) -> None:
        """The manager that the program gave up owns nothing any more."""
        try:
            await self._calls(cluster.apply, ownership.relinquishing(live), manager, False)
        except (ApiError, Unreachable, NoSuchKind) as error:
            raise Refused(f'update of resource "{urn}" failed: {error}') from error

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
                await self._calls(cluster.apply, ownership.relinquishing(live), manager, False)
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
            raise Refused(f"{wording.no_cluster(error)}. {wording.FORGET}") from error
        except ApiError as error:
            raise Refused(wording.not_deleted(error)) from error
        if kinds.annotated_true(inputs, "skipAwait") and live["kind"] in _UNAWAITED:
            return
        seconds = awaits.limit({}, timeout, kinds.annotation(inputs, "timeoutSeconds"))
        try:
            await self._waiting.until_gone(cluster, found, seconds)
        except NotReady as not_ready:
            after = {
                **state,
                **checkpoint.state_of(
                    not_ready.live, inputs, state, manager, checkpoint.initial_version_of(state)
                ),
            }
            raise Unfinished(str(not_ready), identity, after, not_ready.reasons) from not_ready


#: Kinds whose deletion pulumi.com/skipAwait covers too, as in the official provider.
_UNAWAITED = (
    "Namespace", "Pod", "ReplicationController", "DaemonSet", "Deployment", "StatefulSet", "Job",
)  # fmt: skip
