"""What WNS's answers mean, as data.

https://learn.microsoft.com/windows/apps/develop/notifications/push-notifications/push-request-response-headers
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from heliograph.outbound import Reply
from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater

MAX_TEXT = 300
REFERENCE = r"[0-9A-Za-z_.-]{1,128}"


class Verdict(StrEnum):
    """What an answer means for the push."""

    TAKEN = "WNS took it"
    DROPPED = "WNS took it and dropped it: the device is offline, or wants none now"
    CHANNEL_LIMIT = "this channel gets too many"
    GONE = "the channel has ended, or never was"
    KEY = "WNS does not accept the app's access token"
    OTHER_APP = "the app's credentials are not those of the app that the channel belongs to"
    BLOCKED = "WNS has blocked the sender"
    LIMIT = "the app is over its limit"
    REJECTED = "WNS will not take this push"
    LATER = "WNS cannot take it now"
    UNCLEAR = "WNS failed, and may have taken it"


# First match decides: statuses (inclusive range), the whole X-WNS-Status (empty = none), part of the description.
# `channelthrottled` is documented as the limit of "this specific channel", 406 as that of the cloud service; 429 is not
# documented, and read as 406. A 410 speaks of the channel, unless it says that the sender is blocked.
ANSWERS: tuple[tuple[range, str, str, Verdict], ...] = (
    (range(200, 201), r"(received)?", r"", Verdict.TAKEN),
    (range(200, 201), r"dropped", r"", Verdict.DROPPED),
    (range(200, 500), r"channelthrottled", r"", Verdict.CHANNEL_LIMIT),
    (range(401, 402), r".*", r"", Verdict.KEY),
    (range(403, 404), r".*", r"", Verdict.OTHER_APP),
    (range(410, 411), r".*", r"domain.*block", Verdict.BLOCKED),
    (range(404, 405), r".*", r"", Verdict.GONE),
    (range(410, 411), r".*", r"", Verdict.GONE),
    (range(406, 407), r".*", r"", Verdict.LIMIT),
    (range(429, 430), r".*", r"", Verdict.LIMIT),
    # Said by something on the way: at its gate, or giving up, maybe after it had passed the push on.
    (range(407, 408), r".*", r"", Verdict.LATER),
    (range(408, 409), r".*", r"", Verdict.UNCLEAR),
    (range(421, 422), r".*", r"", Verdict.LATER),
    (range(425, 426), r".*", r"", Verdict.LATER),
    (range(503, 504), r".*", r"", Verdict.LATER),
    (range(400, 500), r".*", r"", Verdict.REJECTED),
    (range(1000), r".*", r"", Verdict.UNCLEAR),
)
# Member of the evidence, and the headers that it is taken from. The device's connection is a hint, never a proof.
EVIDENCE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("wnsStatus", ("x-wns-status", "x-wns-notificationstatus")),  # the second is its name in older descriptions
    ("deviceConnection", ("x-wns-deviceconnectionstatus",)),
    ("messageId", ("x-wns-msg-id",)),
    ("error", ("x-wns-error-description",)),
    ("debugTrace", ("x-wns-debug-trace",)),
    ("correlationVector", ("ms-cv",)),
)


def verdict_on(status: int, wns_status: str, description: str = "") -> Verdict:
    """What an answer means, by the table."""
    return next(
        verdict
        for statuses, word, words, verdict in ANSWERS
        if status in statuses
        and re.fullmatch(word, wns_status, re.IGNORECASE | re.DOTALL)
        and re.search(words, description, re.IGNORECASE)
    )


def evidence_of(reply: Reply, secrets: Iterable[str]) -> dict[str, Any]:
    """What WNS says of a push, without what it may repeat of the request."""
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)
    evidence: dict[str, Any] = {"status": reply.status}
    for member, names in EVIDENCE:
        text = next((reply.headers[name] for name in names if reply.headers.get(name)), "")
        for secret in longest_first:
            text = text.replace(secret, "…")
        if text:
            evidence[member] = re.sub(r"[^ -~…]", "", text)[:MAX_TEXT]
    return evidence


def outcome_of(reply: Reply, evidence: dict[str, Any], own_id: str, key_works: bool = False) -> Outcome:
    """An answer in the words of the port. `own_id` names the push where WNS does not.

    `key_works`: WNS takes the app's access tokens for other channels.
    """
    match verdict := verdict_on(reply.status, evidence.get("wnsStatus", ""), evidence.get("error", "")):
        case Verdict.TAKEN if evidence.keys() == {"status"}:
            return RetryLater("an answer that is not WNS's", uncertain=True, evidence=evidence)
        case Verdict.TAKEN:
            named = re.fullmatch(REFERENCE, evidence.get("messageId", ""))
            return Accepted(named[0] if named else own_id, evidence=evidence)
        case Verdict.GONE | Verdict.OTHER_APP | Verdict.REJECTED:
            # A channel of another app may be one device's doing: where it is the account's, many of them say so.
            return Rejected(verdict, token_gone=verdict is not Verdict.REJECTED, evidence=evidence)
        case Verdict.KEY if key_works:  # a browser's channel, that takes no app's token, is refused so as well
            return Misconfigured(verdict, evidence, one_device=True)
        case Verdict.KEY | Verdict.BLOCKED:
            return Misconfigured(verdict, evidence)
    uncertain, account_wide = verdict is Verdict.UNCLEAR, verdict is Verdict.LIMIT
    return RetryLater(verdict, reply.after_s, uncertain, account_wide, evidence)
