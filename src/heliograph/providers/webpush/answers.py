"""What the answers of push services mean, as data. Every device brings a service of its own choice.

RFC 8030, 5 has 201 with `Location` and no body, and so answer those of the browsers. Others take a push with 202 (RFC
8030, 5.1; Mozilla's, once), with 200 and no body (Mozilla's, for some phones) or JSON (ntfy), and UnifiedPush would
have every 2xx read as 201. A login page or a proxy that leads elsewhere says 200 as well, and it says so with a page.
An error is read by its status alone: Google's push service itself words some as pages.
"""

import re
from enum import StrEnum
from typing import Any

from heliograph.outbound import Reply
from heliograph.ports.push import (
    CannotWithdraw,
    Misconfigured,
    Outcome,
    Rejected,
    RetryLater,
    Unavailable,
    WithdrawAnswer,
    Withdrawn,
)


class Content(StrEnum):
    """What an answer holds."""

    NOTHING = "nothing"
    JSON = "a JSON object"
    PAGE = "a page"
    OTHER = "something else, or not the whole of it"


class Verdict(StrEnum):
    """What an answer means for the push."""

    TAKEN = "the push service took it"
    STRANGE = "an answer that is not a push service's"
    GONE = "the push service knows no such subscription"
    KEY = "the push service does not accept the account's VAPID key"
    TOO_LARGE = "the push is too large for this push service"
    LATER = "the push service cannot take it now"
    UNCLEAR = "the push service failed"
    REJECTED = "the push service will not take this push"


class Withdrawal(StrEnum):
    """What an answer means for a withdrawal."""

    DONE = "the push service dropped it"
    STRANGE = "an answer that is not a push service's"
    UNKNOWN = "the push service knows no such push: it expired, was delivered, or was withdrawn"
    LATER = "the push service cannot do it now"
    NEVER = "this push service takes no push back"


ANY = frozenset(Content)
NO_PAGE = ANY - {Content.PAGE}
WORDLESS = frozenset((Content.NOTHING, Content.JSON))
NOTHING = frozenset((Content.NOTHING,))

# First match decides: statuses, contents, verdict.
ANSWERS: tuple[tuple[range, frozenset[Content], Verdict], ...] = (
    (range(200, 201), WORDLESS, Verdict.TAKEN),
    (range(201, 203), NO_PAGE, Verdict.TAKEN),
    (range(204, 205), NOTHING, Verdict.TAKEN),
    (range(200, 300), ANY, Verdict.STRANGE),
    (range(404, 405), ANY, Verdict.GONE),
    (range(410, 411), ANY, Verdict.GONE),
    (range(401, 402), ANY, Verdict.KEY),
    (range(403, 404), ANY, Verdict.KEY),
    (range(413, 414), ANY, Verdict.TOO_LARGE),
    (range(406, 407), ANY, Verdict.LATER),  # Microsoft's (Edge) says so where others say 429: too many
    # 407 is said at the gate of something on the way, 421 by a server that this connection does not suit.
    (range(407, 408), ANY, Verdict.LATER),
    (range(421, 422), ANY, Verdict.LATER),
    (range(408, 409), ANY, Verdict.UNCLEAR),  # something on the way gave up, maybe after it had passed the push on
    (range(425, 426), ANY, Verdict.LATER),
    (range(429, 430), ANY, Verdict.LATER),
    (range(503, 504), ANY, Verdict.LATER),
    (range(507, 508), ANY, Verdict.LATER),
    (range(500, 1000), ANY, Verdict.UNCLEAR),
    (range(1000), ANY, Verdict.REJECTED),
)
# The same of a DELETE, where 202 is a promise only.
WITHDRAWALS: tuple[tuple[range, frozenset[Content], Withdrawal], ...] = (
    (range(200, 201), WORDLESS, Withdrawal.DONE),
    (range(204, 205), NOTHING, Withdrawal.DONE),
    (range(200, 300), ANY, Withdrawal.STRANGE),
    (range(404, 405), ANY, Withdrawal.UNKNOWN),
    (range(410, 411), ANY, Withdrawal.UNKNOWN),
    (range(406, 409), ANY, Withdrawal.LATER),
    (range(421, 422), ANY, Withdrawal.LATER),
    (range(425, 426), ANY, Withdrawal.LATER),
    (range(429, 430), ANY, Withdrawal.LATER),
    (range(501, 502), ANY, Withdrawal.NEVER),
    (range(500, 1000), ANY, Withdrawal.LATER),
    (range(1000), ANY, Withdrawal.NEVER),
)


def content_of(reply: Reply) -> Content:
    """What an answer holds. A type alone makes no page: servers name one for answers without a body as well."""
    if not reply.body.strip() and reply.whole:
        return Content.NOTHING
    if "html" in reply.headers.get("content-type", "").lower() or re.match(rb"(\xef\xbb\xbf)?\s*<", reply.body):
        return Content.PAGE
    return Content.JSON if reply.json() is not None else Content.OTHER


def verdict_on(reply: Reply) -> Verdict:
    """What an answer to a push means, by the table."""
    content = content_of(reply)
    return next(verdict for statuses, held, verdict in ANSWERS if reply.status in statuses and content in held)


def refusal(verdict: Verdict, reply: Reply, key_works: bool) -> Outcome:
    """All but a success, in the words of the port. `key_works`: this service has taken the account's key before."""
    evidence = _evidence(reply)
    match verdict:
        case Verdict.GONE:
            return Rejected(verdict, token_gone=True, evidence=evidence, one_device=True)
        case Verdict.KEY if key_works:  # at this very service: the subscription was made for another one
            return Rejected(f"{verdict} for this subscription", token_gone=True, evidence=evidence, one_device=True)
        case Verdict.KEY:  # it may be wrong, and so may the service, which the device has chosen
            return Misconfigured(verdict, evidence, one_device=True)
        case Verdict.TOO_LARGE | Verdict.REJECTED:
            return Rejected(verdict, evidence=evidence)
    return RetryLater(verdict, reply.after_s, uncertain=verdict is not Verdict.LATER, evidence=evidence)


def withdrawal(reply: Reply) -> WithdrawAnswer:
    """What became of a withdrawal, by the table."""
    content = content_of(reply)
    said = next(said for statuses, held, said in WITHDRAWALS if reply.status in statuses and content in held)
    match said:
        case Withdrawal.DONE:
            return Withdrawn()
        case Withdrawal.UNKNOWN | Withdrawal.NEVER:
            return CannotWithdraw(said)
    return Unavailable(said, reply.after_s)


def _evidence(reply: Reply) -> dict[str, Any]:
    """Status, and the service's own code: Mozilla's `errno`, Apple's `reason`. Nothing that may repeat a secret."""
    evidence: dict[str, Any] = {"status": reply.status}
    answer = reply.json() or {}
    errno, reason = answer.get("errno"), answer.get("reason")
    if isinstance(errno, int) and 0 <= errno < 10_000:
        evidence["errno"] = errno
    if isinstance(reason, str) and re.fullmatch(r"[A-Za-z]{1,40}", reason):
        evidence["reason"] = reason
    return evidence
