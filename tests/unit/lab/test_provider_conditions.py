"""pulumi.com/waitFor: what it may say, and when that is true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.provider import conditions
from lab.provider.awaits import Around

pytestmark = pytest.mark.unit


def thing(annotation: str, status: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "example.dev/v1", "kind": "Thing", "status": status or {},
        "metadata": {"name": "t", "generation": 2,
                     "annotations": {"pulumi.com/waitFor": annotation}}, **more,
    }  # fmt: skip


def missing(annotation: str, status: dict[str, Any], **more: Any) -> list[str]:
    obj = thing(annotation, status, **more)
    check = conditions.of(obj)
    assert check is not None
    return check(obj, Around())


def test_without_the_annotation_there_is_none() -> None:
    assert conditions.of({"metadata": {"name": "t"}}) is None


READY = {"conditions": [{"type": "Ready", "status": "True"}]}
LATER = {"conditions": [{"type": "Ready", "status": "False"}]}


@pytest.mark.parametrize(
    ("annotation", "status", "ready"),
    [
        ("condition=Ready", READY, True),
        ("condition=ready=true", READY, True),
        ("condition=Ready", LATER, False),
        ("condition=Ready=False", LATER, True),
        ("condition=Ready", {}, False),
        ("condition=Ready", {**READY, "observedGeneration": 1}, False),
        ("condition=Ready", {**READY, "observedGeneration": 2}, True),
        ("jsonpath={.status.phase}=Running", {"phase": "Running"}, True),
        ("jsonpath={.status.phase}=Running", {"phase": "Pending"}, False),
        ("jsonpath={$.status.phase}", {"phase": "Pending"}, True),
        ("jsonpath={.status.phase}", {}, False),
        ("jsonpath={.status.phase}", {"phase": "x", "observedGeneration": 1}, False),
        ("jsonpath={.status.n}=2", {"n": 2}, True),
        ("jsonpath={.status.yes}=true", {"yes": True}, True),
        ("jsonpath={.status.list[1]}=b", {"list": ["a", "b"]}, True),
        ("jsonpath={.status.list[-1]}=b", {"list": ["a", "b"]}, True),
        ("jsonpath={.status.list[2]}", {"list": ["a", "b"]}, False),
        ("jsonpath={.status['a.b']}=1", {"a.b": 1}, True),
        ("jsonpath={.status.list[*].ip}=1.2.3.4", {"list": [{"ip": "1.2.3.4"}]}, True),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', READY, True),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', LATER, False),
        ("jsonpath={.status.whole}", {"whole": {"a": 1}}, True),
    ],
)
def test_what_is_waited_for(annotation: str, status: dict[str, Any], ready: bool) -> None:
    assert (missing(annotation, status) == []) is ready


def test_several_are_waited_for_together() -> None:
    both = json.dumps(["condition=Ready", "jsonpath={.status.phase}=Running"])
    assert missing(both, {**READY, "phase": "Running"}) == []
    assert missing(both, {**READY, "phase": "Pending"}) == [
        'Waiting for {.status.phase}=Running (found "Pending")'
    ]
    assert len(missing(both, {})) == 2


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("Ready", 'expected a "jsonpath=" or "condition=" prefix, got "Ready"'),
        ("[]", "at least one condition must be specified"),
        ("jsonpath=.status.phase", r"format should be \{.path\}=value"),
        ("jsonpath={.status.list[0:1]}", "cannot read .*: use the official provider"),
        ("jsonpath={.status.whole}=1", "non-primitive value"),
    ],
)
def test_what_cannot_be_waited_for(annotation: str, said: str) -> None:
    with pytest.raises(conditions.Unreadable, match=said):
        missing(annotation, {"whole": {"a": 1}})
