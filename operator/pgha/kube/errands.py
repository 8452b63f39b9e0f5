"""Small writes that nobody waits for: role labels, status annotations, Events. Owns one thread.

Latest wins: a wish that was replaced before it was sent is never sent. Failures are retried with
back-off until superseded. Nothing here decides a role, and no caller is ever blocked.

A role patch tests the pod's UID and the term it replaces, so that neither a recreated pod nor a
newer holder's labels are touched (law, points 8 and 9; amendment 19).
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from pgha.clock import boottime
from pgha.kube.client import JSON_PATCH, MERGE_PATCH, Api
from pgha.kube.errors import ApiError, Conflict, Invalid, NotFound
from pgha.kube.events import EventLog
from pgha.kube.pods import ROLE_LABEL, TERM_ANNOTATION, parse_term

log = logging.getLogger(__name__)

Role = Literal["primary", "replica"]
CALL_TIMEOUT = 3.0
BACKOFF = (0.1, 10.0)
APART = 0.15  # seconds between the labels of the two roles
ANSWER_WITHIN = 0.3  # seconds that the first ones get to be answered


@dataclass(frozen=True)
class Wish:
    """One pod's role at one term."""

    pod: str
    uid: str
    role: Role
    term: int


class Errands:
    """`known` gives pod objects as last watched, which spares a read before each patch."""

    def __init__(
        self,
        api: Api,
        pod: str = "",
        uid: str = "",
        lease: str = "",
        known: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._api, self.pod, self.uid = api, pod, uid
        self._known, self._clock = known, clock
        self._wake = threading.Condition()
        self._wishes: dict[str, Wish] = {}
        self._term = -1
        self._notes: dict[str, str | None] = {}
        self._events = EventLog(api, pod, uid, lease, clock)
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)
        self._thread.start()

    def set_roles(
        self,
        primary: tuple[str, str],
        replicas: Sequence[tuple[str, str]],
        term: int,
        replicas_first: bool = False,
    ) -> None:
        """Label `primary` (pod, UID) and `replicas`; an older term than before is void.

        kube-proxy brings the first change to the nodes at once and the second a second later. With
        the primary first, the way to it is open at once, and half of the new connections are sent
        to the former primary meanwhile: right where that one refuses them at once.
        `replicas_first` is for one that is cut off, where they would hang.
        """
        wishes = [Wish(*primary, "primary", term)]
        wishes += [Wish(pod, uid, "replica", term) for pod, uid in replicas if pod != primary[0]]
        if replicas_first:
            wishes.reverse()
        with self._wake:
            if term < self._term:
                log.info("role labels of term %d are void: term %d is known", term, self._term)
                return
            self._term, self._wishes = term, {wish.pod: wish for wish in wishes}
            self._retry_now("roles")

    def label_self(self, role: Role, term: int) -> None:
        """Label the own pod only."""
        with self._wake:
            if term < self._term:
                return
            self._wishes = {**self._wishes, self.pod: Wish(self.pod, self.uid, role, term)}
            self._term = term
            self._retry_now("roles")

    @property
    def labelling(self) -> bool:
        """Role labels are wished for and not written yet."""
        return bool(self._wishes)

    def annotate_self(self, key: str, value: str | None) -> None:
        """Set an annotation of the own pod; None removes it."""
        with self._wake:
            self._notes[key] = value
            self._retry_now("notes")

    def event(self, kind: str, reason: str, sentence: str, warning: bool = False) -> None:
        """An Event on the own "Pod" or on the "Lease"; repeats are counted, floods are dropped."""
        with self._wake:
            if self._events.add(kind, reason, sentence, warning):
                self._wake.notify_all()

    def idle(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until labels and annotations are written."""
        with self._wake:
            return self._wake.wait_for(
                lambda: not (self._wishes or self._notes or self._busy), timeout
            )

    def stop(self, timeout: float = 0.0) -> None:
        """Finish what is pending for at most `timeout` seconds, then end."""
        if timeout:
            self.idle(timeout)
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(CALL_TIMEOUT)

    def _retry_now(self, kind: str) -> None:
        self._failures.pop(kind, None)
        self._not_before.pop(kind, None)
        self._wake.notify_all()

    def _due(self) -> str | None:
        now = self._clock()
        for kind in self._pending():
            if self._not_before.get(kind, 0.0) <= now:
                return kind
        return None

    def _pending(self) -> list[str]:
        pending = {
            "roles": bool(self._wishes),
            "notes": bool(self._notes),
            "events": self._events.pending(),
        }
        return [kind for kind, any_pending in pending.items() if any_pending]

    def _patience(self) -> float | None:
        """Seconds to sleep when nothing is due; None until somebody wakes the thread."""
        now = self._clock()
        times = [self._not_before[kind] - now for kind in self._pending()]
        later = self._events.next_due()
        if later is not None:
            times.append(later - now)
        return max(0.01, min(times)) if times else None

    def _run(self) -> None:
        work = {"roles": self._do_roles, "notes": self._do_notes, "events": self._events.send}
        while True:
            with self._wake:
                while (kind := self._due()) is None and not self._stopping:
                    self._wake.wait(self._patience())
                if self._stopping or kind is None:
                    return
                self._not_before.pop(kind, None)
                self._busy = True
            try:
                work[kind]()
                failed = None
            except ApiError as error:
                failed = error
            except Exception as error:
                log.exception("errand %s", kind)
                failed = ApiError(0, "Bug", repr(error))
            with self._wake:
                self._busy = False
                if failed is None:
                    self._failures.pop(kind, None)
                else:
                    self._postpone(kind, failed)
                self._wake.notify_all()

    def _postpone(self, kind: str, error: ApiError) -> None:
        count = self._failures[kind] = self._failures.get(kind, 0) + 1
        low, high = BACKOFF
        wait = min(high, low * 2 ** min(count - 1, 10)) * random.uniform(0.5, 1.0)
        if error.retry_after is not None:
            wait = max(wait, min(error.retry_after, high))
        self._not_before[kind] = self._clock() + wait
        if count in (1, 5) or count % 50 == 0:
            log.warning("errand %s failed %d times: %s", kind, count, error.message)

    def _do_roles(self) -> None:
        """The pods of the role that was wished for first, then, as a change of its own, the others.

        Two changes in the same moment are the slowest: the EndpointSlice controller, which has not
        seen its own first write yet when the second comes, waits a second before it goes on. A
        change without an answer is not waited for: it may have landed long ago.
        """
        with self._wake:
            wishes = list(self._wishes.values())
        sent: list[tuple[Wish, Future[None]]] = []
        # Each on a connection of its own.
        with ThreadPoolExecutor(max(1, len(wishes)), "role") as pool:
            for number, role in enumerate(dict.fromkeys(wish.role for wish in wishes)):
                if number:
                    wait([answer for _, answer in sent], ANSWER_WITHIN)
                with self._wake:
                    if number:
                        self._wake.wait_for(lambda: self._stopping, APART)
                    due = [wish for wish in self._wishes.values() if wish.role == role]
                sent += [(wish, pool.submit(self._grant, wish)) for wish in due]
        failed: BaseException | None = None
        for wish, answer in sent:
            failed = answer.exception() or failed
            if answer.exception() is None:
                with self._wake:
                    if self._wishes.get(wish.pod) is wish:
                        self._wishes = {k: v for k, v in self._wishes.items() if v is not wish}
        if failed is not None:
            raise failed

    def _grant(self, wish: Wish) -> None:
        path = f"/api/v1/namespaces/{self._api.namespace}/pods/{wish.pod}"
        pod: Mapping[str, Any] | None = self._known().get(wish.pod)
        for _ in range(5):
            try:
                if pod is None:
                    pod = self._api.request("GET", path, timeout=CALL_TIMEOUT)
                patch = role_patch(pod, wish)
                if patch:
                    self._api.request("PATCH", path, patch, JSON_PATCH, CALL_TIMEOUT)
                return
            except NotFound:
                return
            except (Conflict, Invalid):
                pod = None  # what was known is not so any more
        raise ApiError(409, "Conflict", f"pod {wish.pod} changes too fast to be labelled")

    def _do_notes(self) -> None:
        with self._wake:
            notes = dict(self._notes)
        body = {"metadata": {"uid": self.uid, "annotations": notes}}
        path = f"/api/v1/namespaces/{self._api.namespace}/pods/{self.pod}"
        try:
            self._api.request("PATCH", path, body, MERGE_PATCH, CALL_TIMEOUT)
        except (NotFound, Conflict, Invalid) as error:
            # A patch with another UID than the pod's is 422: it was recreated under this name.
            log.warning("the status of pod %s is not written: %s", self.pod, error.message)
        with self._wake:
            for key, value in notes.items():
                if key in self._notes and self._notes[key] == value:
                    del self._notes[key]


def role_patch(pod: Mapping[str, Any], wish: Wish) -> list[dict[str, Any]]:
    """JSON patch (RFC 6902) for the wish; empty when there is nothing to do or it must not be."""
    metadata = pod.get("metadata") or {}
    labels, notes = metadata.get("labels"), metadata.get("annotations")
    now, term = (labels or {}).get(ROLE_LABEL), (notes or {}).get(TERM_ANNOTATION)
    known_term = parse_term(term)
    if metadata.get("uid") != wish.uid:
        return []
    if known_term is not None and known_term > wish.term:
        return []
    if now == wish.role and term == str(wish.term):
        return []
    patch: list[dict[str, Any]] = [_op("test", "/metadata/uid", wish.uid)]
    if term is not None:
        patch.append(_op("test", f"/metadata/annotations/{_escape(TERM_ANNOTATION)}", term))
    else:  # there is nothing to test but the version of the whole
        patch.append(_op("test", "/metadata/resourceVersion", metadata.get("resourceVersion")))
    if labels is None:
        patch.append(_op("add", "/metadata/labels", {}))
    if notes is None:
        patch.append(_op("add", "/metadata/annotations", {}))
    patch.append(_op("add", f"/metadata/labels/{_escape(ROLE_LABEL)}", wish.role))
    patch.append(
        _op("add", f"/metadata/annotations/{_escape(TERM_ANNOTATION)}", str(wish.term))
    )
    return patch


def _op(op: str, path: str, value: object) -> dict[str, Any]:
    return {"op": op, "path": path, "value": value}


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
