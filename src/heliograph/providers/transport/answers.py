"""What an exchange over HTTP/2 means for a push, as far as that is the same at every service."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from heliograph.outbound import retry_after_s
from heliograph.ports.push import Misconfigured, RetryLater
from heliograph.ports.transport import Answered, Cause, NotProcessed, Unknown

# What will be so again with the next request: who can mend it is the account's owner.
SETTINGS = frozenset((Cause.NO_TRUST, Cause.NO_ENTRY, Cause.UNUSABLE))
_DECODE = msgspec.json.Decoder().decode
AGAIN = "does no harm: agents drop a push that they have had already"


def unanswered(outcome: NotProcessed | Unknown) -> RetryLater | Misconfigured:
    """No answer. Where the service may have taken the push, the evidence says why it is sent again all the same."""
    evidence: dict[str, Any] = {"reason": outcome.reason} if outcome.reason else {}
    if outcome.cause in SETTINGS:
        return Misconfigured(outcome.cause, evidence)
    if isinstance(outcome, NotProcessed):
        return RetryLater(outcome.cause, evidence=evidence)
    return RetryLater(outcome.cause, uncertain=True, evidence={**evidence, "sendingAgain": AGAIN})


def json_of(answer: Answered) -> dict[str, Any]:
    """The body as a JSON object; empty where it is anything else."""
    if not answer.body:
        return {}
    try:
        value = _DECODE(answer.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def after_s(answer: Answered) -> float | None:
    """Retry-After in seconds."""
    return retry_after_s(answer.headers.get("retry-after"), datetime.now(UTC))
