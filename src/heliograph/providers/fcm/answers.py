"""What FCM says of a message, as an outcome.

https://firebase.google.com/docs/cloud-messaging/error-codes
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater
from heliograph.ports.transport import Answered
from heliograph.ports.transport import Outcome as Exchange
from heliograph.providers.transport import after_s, json_of, unanswered

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"
NAME = re.compile(r"projects/[^/]{1,100}/messages/([\x21-\x7e]{1,128})")
ADDRESSES = ("message.token", "message.fid")
TOO_LARGE = r"\btoo (large|big)\b"  # "Message is too large. The maximum is 4K", before "Android message is too big"
LEAST_WAIT_S = (
    60.0  # over the quota, where nothing else is said: https://firebase.google.com/docs/cloud-messaging/scale-fcm
)


class Verdict(StrEnum):
    """What a failed request means for the push."""

    GONE = "the app is not on the device any more, or its token has been replaced"
    NO_ADDRESS = "FCM knows no such token"
    OTHER_PROJECT = "the token belongs to another Firebase project"
    REJECTED = "FCM will not take this message"
    ACCOUNT = "FCM does not accept the service account: does it belong to the project, and may it send?"
    THIRD_PARTY = "the token is one of another platform's app, which the Firebase project has no valid key for"
    NO_PROJECT = "FCM knows no such project"
    DEVICE_LIMIT = "too many messages to this device"
    LIMIT = "the project is over its quota"
    LATER = "FCM cannot take it now"
    UNCLEAR = "FCM failed, and may have taken it"


# First match decides: statuses, the whole code as of `code_of`, verdict.
FAILURES: tuple[tuple[range, str, Verdict], ...] = (
    (range(404, 405), r"UNREGISTERED", Verdict.GONE),
    (range(404, 405), r".+", Verdict.NO_PROJECT),
    (range(400, 401), r"INVALID_ARGUMENT", Verdict.NO_ADDRESS),
    (range(403, 404), r"SENDER_ID_MISMATCH", Verdict.OTHER_PROJECT),
    (range(401, 402), r"THIRD_PARTY_AUTH_ERROR", Verdict.THIRD_PARTY),
    (range(401, 402), r".*", Verdict.ACCOUNT),
    (range(403, 404), r".*", Verdict.ACCOUNT),
    (range(429, 430), r"DEVICE_QUOTA", Verdict.DEVICE_LIMIT),
    (range(429, 430), r".*", Verdict.LIMIT),
    (range(408, 409), r".+", Verdict.LATER),
    (range(503, 504), r".+", Verdict.LATER),
    # Without a word of the service's, something on the way gave up, maybe after it had passed the push on.
    (range(408, 409), r"", Verdict.UNCLEAR),
    (range(500, 600), r".*", Verdict.UNCLEAR),
    (range(400, 500), r".+", Verdict.REJECTED),
    # No code: not FCM speaks, but something on the way, or the address is wrong.
    (range(400, 500), r"", Verdict.LATER),
    (range(1000), r".*", Verdict.UNCLEAR),
)
# The third party's: only tokens of iOS and web apps go on to another service, and our agents are on Android.
DEAD = (Verdict.GONE, Verdict.NO_ADDRESS, Verdict.OTHER_PROJECT, Verdict.THIRD_PARTY)
SETTINGS = (Verdict.ACCOUNT, Verdict.NO_PROJECT)


def verdict_on(status: int, code: str) -> Verdict:
    """What a status and a code (empty = none) mean, by the table."""
    return next(
        verdict for statuses, pattern, verdict in FAILURES if status in statuses and re.fullmatch(pattern, code)
    )


def code_of(answer: Answered) -> str:
    """FCM's own code, else what Google's front end says; empty where there is neither.

    400 INVALID_ARGUMENT has two meanings. It is about the address unless the request is called wrong, and the address
    is no field of it that is named, or unless the message is too large, which names none: then it is BAD_REQUEST here.
    Nor does 429 QUOTA_EXCEEDED say whose quota that is: it is DEVICE_QUOTA here where every violation is one of a
    device's.
    """
    error = json_of(answer).get("error")
    if not isinstance(error, dict):
        return ""
    details = [d for d in _list(error.get("details")) if isinstance(d, dict)]
    wrong = [d for d in details if d.get("@type") == BAD_REQUEST]
    fields = [v.get("field") for d in wrong for v in _list(d.get("fieldViolations")) if isinstance(v, dict)]
    is_wrong = bool(wrong) or re.search(TOO_LARGE, str(error.get("message")), re.IGNORECASE) is not None
    if is_wrong and not any(field in ADDRESSES for field in fields):
        return "BAD_REQUEST"
    over = [v for d in details if d.get("@type") == QUOTA_FAILURE for v in _list(d.get("violations"))]
    if over and all(map(_is_of_device, over)):
        return "DEVICE_QUOTA"
    own = next((d.get("errorCode") for d in details if d.get("@type") == FCM_ERROR), None)
    if own is None and error.get("status") == "INVALID_ARGUMENT":
        return "INVALID_ARGUMENT" if wrong else "BAD_REQUEST"
    info = next((d.get("reason") for d in details if d.get("@type") == ERROR_INFO), None)
    return next((word for word in map(_word, (own, info, error.get("status"))) if word), "")


def _is_of_device(violation: Any) -> bool:
    """Whether a violation is one of the quota of a device. Google names the quotas, and not how it words them."""
    words = [violation.get(name) for name in ("subject", "description")] if isinstance(violation, dict) else []
    text = " ".join(word for word in words if isinstance(word, str))
    return bool(re.search("device", text, re.IGNORECASE)) and not re.search("project", text, re.IGNORECASE)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(value: Any) -> str:
    """A code, and nothing that could be repeated from the request."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Z][A-Z_]{2,39}", value) else ""


def outcome_of(answer: Exchange, our_id: str) -> Outcome:
    """What became of a message. Success is 200 with FCM's name of it, and nothing else."""
    if not isinstance(answer, Answered):
        return unanswered(answer)
    if answer.status < 300:
        return _accepted(answer, our_id)
    code = code_of(answer)
    verdict = verdict_on(answer.status, code)
    evidence: dict[str, Any] = {"status": answer.status} | ({"code": code} if code else {})
    if verdict in DEAD:
        return Rejected(verdict, token_gone=True, evidence=evidence)
    if verdict is Verdict.REJECTED:
        return Rejected(verdict, evidence=evidence)
    if verdict in SETTINGS:
        return Misconfigured(with_code(verdict, evidence), evidence)
    wait_s, over = after_s(answer), verdict is Verdict.LIMIT
    return RetryLater(
        verdict, LEAST_WAIT_S if over and wait_s is None else wait_s, verdict is Verdict.UNCLEAR, over, evidence
    )


def _accepted(answer: Answered, our_id: str) -> Outcome:
    name = json_of(answer).get("name")
    found = NAME.fullmatch(name) if isinstance(name, str) else None
    if found is not None and answer.status == 200:
        return Accepted(found[1], evidence={"status": 200})
    # A body that was cut says no name, but the status counts: our own id stands in for it. Unless it was a page.
    is_page = "html" in answer.headers.get("content-type", "").lower()
    if answer.status != 200 or answer.whole or is_page:
        return RetryLater("an answer that is not FCM's", uncertain=True, evidence={"status": answer.status})
    return Accepted(our_id, evidence={"status": 200})


def with_code(reason: str, evidence: Mapping[str, Any]) -> str:
    """A sentence, with FCM's own code where there is one."""
    return f"{reason} ({evidence['code']})" if evidence.get("code") else reason
