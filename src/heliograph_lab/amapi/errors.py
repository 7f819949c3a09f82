"""Errors as Google's APIs write them."""

from typing import Any

import msgspec

TYPE_URL = "type.googleapis.com/"

# HTTP status -> google.rpc.Code name and the text Google gives when there is nothing better to say.
_DEFAULTS: dict[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: (
        "UNAUTHENTICATED",
        (
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
            "other valid authentication credential. See "
            "https://developers.google.com/identity/sign-in/web/devconsole-project."
        ),
    ),
    403: ("PERMISSION_DENIED", "Caller is not authorized to manage enterprise."),
    404: ("NOT_FOUND", "Requested entity was not found."),
    409: ("ABORTED", "The operation was aborted."),
    429: (
        "RESOURCE_EXHAUSTED",
        (
            "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service "
            "'androidmanagement.googleapis.com' for consumer 'project_number:1'."
        ),
    ),
    499: ("CANCELLED", "The operation was cancelled."),
    500: ("INTERNAL", "Internal error encountered."),
    501: ("UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."),
    503: ("UNAVAILABLE", "The service is currently unavailable."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}

NOT_FOUND_PAGE = (
    b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    b"<p><b>404.</b> <ins>That\xe2\x80\x99s an error.</ins>\n"
    b"<p>The requested URL was not found on this server.  <ins>That\xe2\x80\x99s all we know.</ins>\n"
)
"""What Google's front end says to a path or method that no API has: HTML, so a client must not count on JSON."""


class ApiError(Exception):
    """An answer in Google's error shape. `rpc` overrides the name that goes with the HTTP status.

    `retry_after`: seconds, for the header.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        rpc: str | None = None,
        details: list[dict[str, Any]] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.body = error_json(status, message, rpc=rpc, details=details)


class Unmodelled(ApiError):
    """501: Google has it, and the emulator has not. Logged as an error, for whoever needs it has to add it."""

    def __init__(self, what: str) -> None:
        super().__init__(501, f"The emulator does not model {what}.")


def error_json(
    status: int, message: str | None = None, *, rpc: str | None = None, details: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The error object for an HTTP status; a bare status gets Google's usual words."""
    family = 400 if status < 500 else 500
    name, text = _DEFAULTS.get(status, _DEFAULTS[family])
    error: dict[str, Any] = {"code": status, "message": message or text, "status": rpc or name}
    if details is None and status in _DETAILS:
        details = [_DETAILS[status]]
    if details:
        error["details"] = details
    return {"error": error}


def error_body(status: int, message: str | None = None) -> bytes:
    """`error_json`, encoded the way Google does it."""
    return encode(error_json(status, message))


def encode(body: Any) -> bytes:
    """JSON with Google's indentation."""
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def _info(reason: str, **metadata: str) -> dict[str, Any]:
    return {
        "@type": f"{TYPE_URL}google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "androidmanagement.googleapis.com", **metadata},
    }


_DETAILS = {
    401: _info("CREDENTIALS_MISSING"),
    429: _info("RATE_LIMIT_EXCEEDED", quota_metric="androidmanagement.googleapis.com/requests"),
}


class Violations:
    """Collects what is wrong with a request, to be refused in one answer."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, description: str) -> None:
        """Note one violation; `field` is a path such as `wipe_params.wipe_reason`, empty for the message itself."""
        self._found.append((field, description))

    def unknown(self, name: str, at: str, why: str = "Cannot find field.") -> None:
        """A name that the message does not have."""
        where = f" at '{at}'" if at else ""
        self.add(at, f'Invalid JSON payload received. Unknown name "{name}"{where}: {why}')

    def invalid(self, at: str, kind: str, why: str) -> None:
        """A value that does not fit the field's type."""
        self.add(at, f"Invalid value at '{at}' ({kind}), {why}")

    def raise_if_any(self) -> None:
        """Refuse the request if anything was noted."""
        if not self._found:
            return
        entries = [
            {"field": field, "description": text} if field else {"description": text} for field, text in self._found
        ]
        detail = {"@type": f"{TYPE_URL}google.rpc.BadRequest", "fieldViolations": entries}
        raise ApiError(400, "\n".join(text for _, text in self._found), details=[detail])
