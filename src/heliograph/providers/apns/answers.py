"""What APNs says of a push, as an outcome.

https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater
from heliograph.ports.transport import Answered, NotProcessed, Unknown
from heliograph.ports.transport import Outcome as Exchange
from heliograph.providers.transport import after_s, json_of, unanswered

TOO_OLD = "ExpiredProviderToken"


class Verdict(StrEnum):
    """What a refusal means for the push."""

    GONE = "the app is not on the device any more, or its token has been replaced"
    NOT_OURS = "the token is not one of this app in this environment"
    REJECTED = "APNs will not take this push"
    ACCOUNT = "APNs does not accept the account: do its key or certificate, topic and environment fit each other?"
    CLOCK = "APNs calls a provider token expired that was just made: is this machine's clock right?"
    DEVICE_LIMIT = "too many pushes to this device"
    LIMIT = "the account is over a limit"
    LATER = "APNs cannot take it now"
    UNCLEAR = "APNs failed, and may have taken it"


# First match decides: statuses, the whole reason (empty = none), verdict. Status 0: the reason came with a GOAWAY.
SAID = range(500)
FAILURES: tuple[tuple[range, str, Verdict], ...] = (
    (SAID, r"Unregistered|ExpiredToken", Verdict.GONE),
    (range(410, 411), r".+", Verdict.GONE),
    (SAID, r"BadDeviceToken|DeviceTokenNotForTopic|MissingDeviceToken", Verdict.NOT_OURS),
    (SAID, TOO_OLD, Verdict.CLOCK),
    (SAID, r"(Invalid|Missing)ProviderToken|BadCertificate(Environment)?|BadEnvironmentKey\w*", Verdict.ACCOUNT),
    (SAID, r"TopicDisallowed|BadTopic|MissingTopic|Forbidden", Verdict.ACCOUNT),
    (SAID, r"TooManyRequests", Verdict.DEVICE_LIMIT),
    (SAID, r"TooManyProviderTokenUpdates", Verdict.LIMIT),
    (SAID, r"ServiceUnavailable|Shutdown|IdleTimeout", Verdict.LATER),
    (range(403, 404), r".*", Verdict.ACCOUNT),
    (range(413, 414), r".*", Verdict.REJECTED),
    (range(429, 430), r".*", Verdict.LIMIT),
    (range(408, 409), r".+", Verdict.LATER),
    (range(503, 504), r".+", Verdict.LATER),
    # Without a word of the service's, something on the way gave up, maybe after it had passed the push on.
    (range(408, 409), r"", Verdict.UNCLEAR),
    (range(500, 600), r".*", Verdict.UNCLEAR),
    (range(400, 500), r".+", Verdict.REJECTED),
    # No reason: not APNs speaks, but something on the way, or the address is wrong.
    (range(400, 500), r"", Verdict.LATER),
    (range(1000), r".*", Verdict.UNCLEAR),
)


def verdict_on(status: int, reason: str) -> Verdict:
    """What a status and a reason (empty = none) mean, by the table."""
    return next(v for statuses, pattern, v in FAILURES if status in statuses and re.fullmatch(pattern, reason))


def word_of(answer: Exchange) -> str:
    """APNs' reason: a word, and nothing that could be repeated from the request."""
    word = json_of(answer).get("reason") if isinstance(answer, Answered) else answer.reason
    return word if isinstance(word, str) and re.fullmatch(r"[A-Z][A-Za-z]{2,39}", word) else ""


def with_word(reason: str, evidence: Mapping[str, Any]) -> str:
    """A sentence, with APNs' own word where there is one."""
    return f"{reason} ({evidence['reason']})" if evidence.get("reason") else reason


def outcome_of(answer: Exchange, our_id: str) -> Outcome:
    """What became of a push. Success is 200 without a body, and nothing else."""
    if not isinstance(answer, Answered):
        return _without_answer(answer)
    if answer.status == 200 and answer.whole and not answer.body:
        said = answer.headers.get("apns-id")
        # Ours, as a rule: what need not be read costs nothing.
        return Accepted(our_id if said == our_id else _uuid(said) or our_id, evidence={"status": 200})
    if answer.status < 300:
        return RetryLater("an answer that is not APNs'", uncertain=True, evidence={"status": answer.status})
    word = word_of(answer)
    verdict = verdict_on(answer.status, word)
    evidence: dict[str, Any] = {"status": answer.status} | ({"reason": word} if word else {})
    match verdict:
        case Verdict.GONE | Verdict.NOT_OURS:
            return Rejected(verdict, True, _microseconds(json_of(answer).get("timestamp")), evidence)
        case Verdict.REJECTED:
            return Rejected(verdict, evidence=evidence)
        case Verdict.ACCOUNT | Verdict.CLOCK:
            return Misconfigured(with_word(verdict, evidence), evidence)
    return RetryLater(verdict, after_s(answer), verdict is Verdict.UNCLEAR, verdict is Verdict.LIMIT, evidence)


def _without_answer(outcome: NotProcessed | Unknown) -> Outcome:
    """A connection that was ended with a reason may say what is wrong with the account."""
    word = word_of(outcome)
    if word and verdict_on(0, word) is Verdict.ACCOUNT:
        return Misconfigured(f"{Verdict.ACCOUNT} ({word})", {"reason": word})
    return unanswered(outcome)


def _uuid(text: str | None) -> str | None:
    try:
        return str(UUID(text or ""))
    except ValueError:
        return None


def _microseconds(timestamp: Any) -> int | None:
    """The `timestamp` of a 410, in milliseconds; None where it makes no sense."""
    whole = isinstance(timestamp, int) and not isinstance(timestamp, bool)
    return timestamp * 1000 if whole and 0 < timestamp < 10**14 else None
