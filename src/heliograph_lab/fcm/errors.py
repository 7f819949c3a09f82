"""FCM's errors, in Google's shape.

https://firebase.google.com/docs/cloud-messaging/error-codes
"""

from typing import Any

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

# HTTP status -> google.rpc status, FCM's own code, message
_USUAL: dict[int, tuple[str, str, str]] = {
    400: ("INVALID_ARGUMENT", "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"),
    401: ("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", "Auth error from APNS or Web Push Service"),
    403: ("PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch"),
    404: ("NOT_FOUND", "UNREGISTERED", "Requested entity was not found."),
    429: ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded for the project."),
    500: ("INTERNAL", "INTERNAL", "Internal error encountered."),
    503: ("UNAVAILABLE", "UNAVAILABLE", "The service is currently unavailable."),
}
BAD_REQUEST_REASON = "BAD_REQUEST"  # of a fault with 400: the request is wrong, not the token


class FcmError(Exception):
    """A refusal."""

    def __init__(
        self, status: int, code: str, message: str, details: list[dict[str, Any]], retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.body = {"error": {"code": status, "message": message, "status": code, "details": details}}


def usual(status: int, reason: str | None = None, retry_after: int | None = None) -> FcmError:
    """The error that goes with a status; `reason` in place of FCM's own code (BAD_REQUEST: a wrong request)."""
    if status == 400 and reason == BAD_REQUEST_REASON:
        return bad_request("message", "the request is wrong; asked for in the lab")
    code, own, message = _USUAL.get(status, ("UNKNOWN", "UNSPECIFIED_ERROR", f"fault {status}"))
    details = [{"@type": FCM_ERROR, "errorCode": reason or own}]
    return FcmError(status, code, message, details, retry_after)


def bad_request(field: str, description: str) -> FcmError:
    """The other meaning of 400: this member of our request is wrong."""
    violations = [{"field": field, "description": description}]
    details = [{"@type": BAD_REQUEST, "fieldViolations": violations}]
    return FcmError(400, "INVALID_ARGUMENT", f"Invalid value at '{field}': {description}", details)


def too_large(most: int) -> FcmError:
    """A message of too many bytes. It names no member, and its code is that of an address that is none."""
    details = [{"@type": BAD_REQUEST}, {"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}]
    message = f"Message is too large. The maximum is {most // 1024}K ({most} bytes)."
    return FcmError(400, "INVALID_ARGUMENT", message, details)


def unauthenticated(reason: str) -> FcmError:
    """401: no bearer token, or one that does not live."""
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential."
    )
    details = [{"@type": ERROR_INFO, "reason": reason, "domain": "googleapis.com"}]
    return FcmError(401, "UNAUTHENTICATED", message, details)


def permission_denied(project: str) -> FcmError:
    """403: the account may not send for this project."""
    permission = "cloudmessaging.messages.create"
    message = f"Permission '{permission}' denied on resource '//cloudresourcemanager.googleapis.com/projects/{project}'"
    details = [{"@type": ERROR_INFO, "reason": "IAM_PERMISSION_DENIED", "domain": "iam.googleapis.com"}]
    return FcmError(403, "PERMISSION_DENIED", message, details)


def plain(status: int, code: str, message: str) -> FcmError:
    """An error without details."""
    return FcmError(status, code, message, [])
