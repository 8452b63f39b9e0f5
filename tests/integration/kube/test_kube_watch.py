"""Watches against a real API server through the fault proxy: they survive whatever it does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgha.kube.client import MERGE_PATCH
from pgha.kube.watching import Watch
from tests.integration.kube.apiserver import NAMESPACE, ApiServer
from tests.integration.kube.faultproxy import Fault, FaultProxy

pytestmark = pytest.mark.integration

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NODES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"


class Seen:
    """Collects callbacks and waits for conditions."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.objects: dict[str, dict[str, Any]] = {}
        self.changes = 0
        self.downs: list[str] = []

    def change(self, objects: dict[str, dict[str, Any]]) -> None:
        with self.lock:
            self.objects, self.changes = objects, self.changes + 1
            self.lock.notify_all()

    def down(self, why: str) -> None:
        with self.lock:
            self.downs.append(why)
            self.lock.notify_all()

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
        with self.lock:
            deadline = time.monotonic() + seconds
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"{what}; seen {sorted(self.objects)}, downs {self.downs}"
                self.lock.wait(min(left, 0.1))


@pytest.fixture
def api(kube: ApiServer, proxy: FaultProxy) -> Any:
    rbac = {"apiGroup": "rbac.authorization.k8s.io"}
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    kube.admin.request("POST", f"{NODES}/roles", {"metadata": {"name": "a"}, "rules": [rule]})
    kube.admin.request("POST", f"{NODES}/rolebindings", {
        "metadata": {"name": "a"}, "subjects": [{"kind": "User", "name": "agent", **rbac}],
        "roleRef": {"kind": "Role", "name": "a", **rbac}})  # fmt: skip
    return kube.agent(proxy.url)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def quiet() -> float:
    """Seconds of silence after which the watch lists anew: none of a test that counts the lists,
    on a machine that stands still for a while."""
    return 60.0


@pytest.fixture
def watch(api: Any, seen: Seen, quiet: float) -> Iterator[Watch]:
    made = Watch(api, PODS, seen.change, seen.down, label_selector="app=x", quiet=quiet)
    yield made
    made.stop()


def up(watch: Watch, seen: Seen) -> None:
    watch.start()
    seen.until(lambda: watch.connected, "the watch is connected")


def test_it_lists_and_follows(kube: ApiServer, watch: Watch, seen: Seen) -> None:
    kube.pod("db-0")
    kube.pod("foreign", labels={"app": "y"})
    up(watch, seen)
    seen.until(lambda: set(seen.objects) == {"db-0"}, "the first list")
    kube.pod("db-1")
    seen.until(lambda: set(seen.objects) == {"db-0", "db-1"}, "an added pod")
    body = {"metadata": {"labels": {"role": "z"}}}
    kube.admin.request("PATCH", f"{PODS}/db-1", body, MERGE_PATCH)
    seen.until(
        lambda: seen.objects["db-1"]["metadata"]["labels"].get("role") == "z", "a changed pod"
    )
    kube.admin.request("DELETE", f"{PODS}/db-0", {"gracePeriodSeconds": 0})
    seen.until(lambda: set(seen.objects) == {"db-1"}, "a deleted pod")
    assert watch.objects == seen.objects
    assert watch.lists == 1 and not seen.downs
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert watch.synced_at is not None and now - 20 < watch.synced_at <= now


def test_a_dropped_watch_resumes_where_it_was(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy
) -> None:
    up(watch, seen)
    kube.pod("db-1")
    seen.until(lambda: "db-1" in seen.objects, "an event")
    version = seen.objects["db-1"]["metadata"]["resourceVersion"]
    before = proxy.count("GET", "watch=true")
    proxy.fault(Fault("status", "GET", "watch=true", code=500))
    assert proxy.drop_watches() == 1
    kube.pod("db-0")
    seen.until(lambda: "db-0" in seen.objects, "the pod made during the gap")
    assert watch.lists == 1  # resumed by resourceVersion
    assert proxy.count("GET", "watch=true") >= before + 2
    assert proxy.count("GET", f"watch=true.*resourceVersion={version}&") >= 2


@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_outage_is_reported_once_and_ends(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy, code: int
) -> None:
    up(watch, seen)
    fault = proxy.fault(Fault("status", "GET", ".*", code=code, count=10**6))
    proxy.drop_watches()
    seen.until(lambda: len(seen.downs) == 1, "the outage is told")
    assert not watch.connected
    asked = proxy.count("GET", "watch=true")
    kube.pod("db-0")
    seen.until(lambda: proxy.count("GET", "watch=true") >= asked + 2, "it goes on asking")
    assert len(seen.downs) == 1
    assert "db-0" not in watch.objects
    fault.count = 1
    seen.until(lambda: "db-0" in seen.objects, "it is back")
    assert watch.lists == 1


def test_gone_as_an_answer_lists_anew(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy
) -> None:
    up(watch, seen)
    proxy.fault(Fault("status", "GET", "watch=true", code=410))
    proxy.drop_watches()
    kube.pod("db-0")
    seen.until(lambda: "db-0" in seen.objects and watch.lists == 2, "a second list")
    assert not seen.downs


def test_gone_as_an_event_lists_anew(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy
) -> None:
    up(watch, seen)
    text = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410}})
    proxy.fault(Fault("event", "GET", "watch=true", text=text))
    proxy.drop_watches()
    kube.pod("db-0")
    seen.until(lambda: "db-0" in seen.objects and watch.lists == 2, "a second list")
    assert not seen.downs


def test_a_version_too_old_for_the_real_server(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy
) -> None:
    kube.pod("db-0")
    kube.stop_api()
    kube.start_api()  # its watch cache begins now, so version 1 is gone
    up(watch, seen)
    proxy.fault(Fault("old", "GET", "watch=true"))
    proxy.drop_watches()
    seen.until(lambda: watch.lists == 2 and watch.connected, "the real 410 led to a list")
    assert set(watch.objects) == {"db-0"}


@pytest.mark.parametrize("quiet", [2.0])
def test_a_silent_watch_is_replaced(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy
) -> None:
    up(watch, seen)
    proxy.stalled = True
    kube.pod("db-0")  # the event is swallowed
    # Without a single byte, a bookmark's say, nothing tells whether the version is one to come.
    seen.until(lambda: "db-0" in seen.objects, "the swallowed event, by a new list")
    assert watch.lists >= 2
    proxy.stalled = False
    kube.pod("db-1")
    seen.until(lambda: "db-1" in seen.objects, "an event by the watch that came in its place")


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "ADDED"}', '{"type": "ADDED", "object": 1}'])
def test_nonsense_in_the_stream_is_survived(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy, text: str
) -> None:
    up(watch, seen)
    nonsense = proxy.fault(Fault("event", "GET", "watch=true", text=text))
    proxy.drop_watches()
    kube.pod("db-0")
    seen.until(lambda: "db-0" in seen.objects, "the pod after the nonsense")
    assert nonsense.count == 0, "it was in the stream"
    assert "db-0" in watch.objects


def test_a_callback_that_fails_does_not_end_the_watch(
    kube: ApiServer, api: Any, seen: Seen
) -> None:
    def fail(objects: dict[str, dict[str, Any]]) -> None:
        seen.change(objects)
        raise RuntimeError("a bug elsewhere")

    watch = Watch(api, PODS, fail, seen.down).start()
    try:
        seen.until(lambda: seen.changes == 1, "the first list")
        kube.pod("db-0")
        seen.until(lambda: "db-0" in seen.objects, "the pod")
    finally:
        watch.stop()


def test_refresh_lists_at_once_and_stop_ends_the_thread(
    kube: ApiServer, watch: Watch, seen: Seen
) -> None:
    up(watch, seen)
    watch.refresh()
    seen.until(lambda: watch.lists == 2 and watch.connected, "a second list")
    watch.stop(5)
    assert not watch._thread.is_alive()
    changes = seen.changes
    kube.pod("db-0")
    assert seen.changes == changes


def test_the_first_list_fails_for_a_while(
    kube: ApiServer, watch: Watch, seen: Seen, proxy: FaultProxy
) -> None:
    kube.pod("db-0")
    proxy.fault(Fault("status", "GET", code=500, text="etcd is away", count=4))
    watch.start()
    seen.until(lambda: "db-0" in seen.objects, "the list")
    assert seen.downs == ["etcd is away"]
