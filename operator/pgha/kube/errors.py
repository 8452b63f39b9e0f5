"""What an API call can end in. Owns the error types and their one sentence; sends nothing.

`ambiguous` is the question that matters for a write: may it have landed although it failed?
"""

from __future__ import annotations

import json
import re
from typing import Any

_CANNOT = re.compile(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"')


class ApiError(Exception):
    """An answer other than success. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def ambiguous(self) -> bool:
        """True when a write may have landed: the server answered only after it had begun."""
        return self.status >= 500 or self.status == 408


class Conflict(ApiError):
    """409: the object changed since it was read, or exists already."""


class NotFound(ApiError):
    """404: no such object."""


class Forbidden(ApiError):
    """401 or 403: the message names verb and resource and says what to add to the Role."""


class Gone(ApiError):
    """410: the resourceVersion is too old; list again."""


class Invalid(ApiError):
    """422: refused by validation, or a `test` of a JSON patch did not hold."""


class ApiUnreachable(ApiError):
    """No answer in time. For a write the outcome is unknown unless `ambiguous` says otherwise."""

    def __init__(self, message: str, ambiguous: bool = True) -> None:
        super().__init__(0, "Unreachable", message)
        self._ambiguous = ambiguous

    @property
    def ambiguous(self) -> bool:
        """False only when the request never left: the connection was not made."""
        return self._ambiguous


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


def from_answer(
    method: str, path: str, status: int, body: bytes, retry_after: str | None = None
) -> ApiError:
    """The error for an HTTP answer that is no success; `body` is a Status object or anything."""
    reason, text = str(status), body[:300].decode("utf-8", "replace").strip()
    try:
        loaded: Any = json.loads(body)
    except ValueError:
        loaded = None
    if isinstance(loaded, dict):
        reason = str(loaded.get("reason") or status)
        text = str(loaded.get("message") or text)
    if status == 401:
        text = (
            f"the Kubernetes API does not accept this agent's token for {method} {path}: "
            "check that the ServiceAccount exists and its token is mounted"
        )
    elif status == 403:
        text = _forbidden(method, path, text)
    kind = _BY_STATUS.get(status, ApiError)
    return kind(status, reason, text, _seconds(retry_after))


def _forbidden(method: str, path: str, text: str) -> str:
    found = _CANNOT.search(text)
    if found is None:
        return f"{method} {path} is forbidden ({text}): grant it in the Role of this cluster"
    verb, resource, group = found.groups()
    name = path.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    which = "" if name == resource else f' "{name}"'
    return (
        f"the ServiceAccount may not {verb} {resource}{which}: add the verb {verb} on {resource} "
        f'(API group "{group}") to the Role of this cluster, `pulumi up` does it'
    )


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
