"""Who manages which field of an object (metadata.managedFields). Pure.

An object is made by a plain create, so that of two creators one fails, and changed by server-side
apply. The API server keeps those as two managers, so before the first apply the entry of the
create is handed to the applying manager; otherwise it would conflict with itself.
"""

from __future__ import annotations

import copy
from typing import Any

CREATOR = "pulumi-kubernetes"

#: (manager, operation) whose fields a program takes over. A name stands for all that begin with
#: it, as in the official provider: what `kubectl edit` and `kubectl patch` changed is among them.
TAKEN_OVER = (
    ("kubectl", "Apply"),
    ("kubectl", "Update"),
    ("before-first-apply", "Update"),
    ("pulumi-kubernetes", "Update"),
    ("pulumi-resource-kubernetes", "Update"),
)


def taken_over(entries: list[dict[str, Any]], manager: str) -> list[dict[str, Any]] | None:
    """The entries after `manager` took over what is its own; None if nothing changes."""
    mine: dict[str, Any] | None = None
    others: list[dict[str, Any]] = []
    fields: dict[str, Any] = {}
    took = False
    for entry in entries:
        who = (str(entry.get("manager")), str(entry.get("operation")))
        if entry.get("subresource"):
            others.append(entry)
        elif who == (manager, "Apply"):
            mine = entry
        elif _is_taken_over(*who):
            fields, took = _union(fields, entry.get("fieldsV1") or {}), True
            mine = mine or {**entry, "manager": manager, "operation": "Apply"}
        else:
            others.append(entry)
    if not took or mine is None:
        return None
    merged = _union(fields, mine.get("fieldsV1") or {})
    return [{**mine, "manager": manager, "operation": "Apply", "fieldsV1": merged}, *others]


def _is_taken_over(manager: str, operation: str) -> bool:
    return any(manager.startswith(name) and operation == how for name, how in TAKEN_OVER)


def _union(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(a)
    for key, value in b.items():
        found[key] = _union(found[key], value) if key in found else copy.deepcopy(value)
    return found


def made_by_create(entries: list[dict[str, Any]]) -> bool:
    """Is a plain create or update of this provider still on record?"""
    return any(
        entry.get("operation") == "Update"
        and str(entry.get("manager")).removesuffix(".exe")
        in ("pulumi-kubernetes", "pulumi-resource-kubernetes")
        for entry in entries
    )


def honoring(
    obj: dict[str, Any], live: dict[str, Any], manager: str, ignore: list[str]
) -> dict[str, Any]:
    """The inputs to apply under `ignore_changes`.

    An ignored field that another manager owns and this one does not is left out; any other is
    sent as it is live, so that applying neither changes nor removes it.
    """
    found = copy.deepcopy(obj)
    entries = (live.get("metadata") or {}).get("managedFields") or []
    for rule in ignore:
        path = rule.split(".")
        mine = theirs = False
        for entry in entries:
            if _owns(entry.get("fieldsV1") or {}, path):
                if entry.get("manager") == manager:
                    mine = True
                else:
                    theirs = True
        if theirs and not mine:
            _remove(found, path)
        else:
            _copy(live, found, path)
    return found


def _owns(fields: dict[str, Any], path: list[str]) -> bool:
    for key in path:
        if f"f:{key}" not in fields:
            return False
        fields = fields[f"f:{key}"]
    return True


def _remove(obj: dict[str, Any], path: list[str]) -> None:
    for key in path[:-1]:
        inner = obj.get(key)
        if not isinstance(inner, dict):
            return
        obj = inner
    obj.pop(path[-1], None)


def _copy(live: dict[str, Any], obj: dict[str, Any], path: list[str]) -> None:
    value: Any = live
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return
        value = value[key]
    for key in path[:-1]:
        inner = obj.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        obj = inner
    obj[path[-1]] = copy.deepcopy(value)


def relinquishing(live: dict[str, Any]) -> dict[str, Any]:
    """The least that an apply may send: its manager gives up every field that it has."""
    metadata = {k: live["metadata"][k] for k in ("name", "namespace") if live["metadata"].get(k)}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
