"""Errors on the wire: one table from a domain error to HTTP status, contract code and message."""

from typing import Any

import msgspec

from heliograph.domain.errors import (
    Conflict,
    FeatureNotAllowed,
    FieldError,
    HeliographError,
    InvalidInput,
    NotFound,
    NoToken,
    NotPending,
    PermissionMissing,
    StoreUnavailable,
    Unauthenticated,
)

PROBLEMS: dict[type[HeliographError], tuple[int, int]] = {
    NotFound: (404, 3001),
    NoToken: (401, 4002),
    Unauthenticated: (401, 4004),
    PermissionMissing: (401, 4001),
    FeatureNotAllowed: (400, 5050),
    NotPending: (400, 5052),
    InvalidInput: (400, 5209),
    Conflict: (503, 1003),  # lost every race for seconds on end: nothing was changed, try again
    StoreUnavailable: (503, 1003),
}
INVALID = 5209
UNKNOWN_ROUTE = 1002
UNEXPECTED = 1000
UNAVAILABLE = 1003
TOO_LARGE = 5213
TOO_MANY = 4029
TIMED_OUT = 4008
RETRY_AFTER_S = 1


class Problem(Exception):
    """An answer that says no: `status` (HTTP), `code` (contract), `message`, extra headers and `error.data`."""

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        headers: dict[str, str] | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = headers or {}
        self.data = data

    def body(self) -> bytes:
        """The failure envelope."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return msgspec.json.encode({"status": False, "error": error})


def problem_of(error: Exception, request_id: str) -> Problem:
    """The problem that an exception becomes. Nothing of the inside shows in an unexpected one."""
    if isinstance(error, Problem):
        return error
    for kind, (status, code) in PROBLEMS.items():
        if isinstance(error, kind):
            headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
            data = None
            message = str(error)
            if isinstance(error, InvalidInput):
                message = "Invalid input"
                fields = error.fields or [FieldError("", str(error))]
                data = {"fields": [{"path": f.path, "reason": f.reason} for f in fields]}
            return Problem(status, code, message, headers, data)
    return Problem(500, UNEXPECTED, f"Internal error; request id {request_id}", data={"requestId": request_id})
