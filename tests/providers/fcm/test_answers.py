"""What each answer of FCM means, and what it means that none comes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    Rejected,
    RetryLater,
    Unavailable,
    Works,
)
from heliograph.providers.fcm.answers import BAD_REQUEST, ERROR_INFO, FCM_ERROR, QUOTA_FAILURE, Verdict, verdict_on
from heliograph.providers.fcm.sending import NOBODY, Fcm
from heliograph.providers.transport.answers import AGAIN
from heliograph_lab.http2 import Answer as Http2Answer
from heliograph_lab.http2 import Reset
from heliograph_lab.http2.model import INTERNAL_ERROR
from tests.providers.fcm.rig import error, send
from tests.providers.samples import WAKE
from tests.providers.test_fcm import ACCEPTED, NAME, TOKEN
from tests.support.wire import Answer, Raw, json_answer
from tests.support.wire_http2 import Http2Wire


def fcm(code: str) -> dict[str, str]:
    return {"@type": FCM_ERROR, "errorCode": code}


def wrong(field: str) -> dict[str, Any]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": "words"}]}


def info(reason: str) -> dict[str, str]:
    return {"@type": ERROR_INFO, "reason": reason, "domain": "googleapis.com"}


def quota(**violation: Any) -> dict[str, Any]:
    return {"@type": QUOTA_FAILURE, "violations": [violation]}


def gone(verdict: Verdict, status: int, code: str) -> Rejected:
    return Rejected(verdict, token_gone=True, evidence={"status": status, "code": code})


def refused(verdict: Verdict, status: int, code: str) -> Misconfigured:
    return Misconfigured(f"{verdict} ({code})", {"status": status, "code": code})


NO_ADDRESS = gone(Verdict.NO_ADDRESS, 400, "INVALID_ARGUMENT")
TOO_MANY = RetryLater(Verdict.DEVICE_LIMIT, 5.0, evidence={"status": 429, "code": "DEVICE_QUOTA"})
OUR_FAULT = Rejected(Verdict.REJECTED, evidence={"status": 400, "code": "BAD_REQUEST"})
TOO_LARGE = "Message is too large. The maximum is 4K (4096 bytes)."
NO_TOKEN = "The registration token is not a valid FCM registration token"
STRANGE = RetryLater("an answer that is not FCM's", uncertain=True, evidence={"status": 200})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # The two meanings of one 400
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT")), NO_ADDRESS),
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), wrong("message.token")), NO_ADDRESS),
        (error(400, "INVALID_ARGUMENT", wrong("message.fid")), NO_ADDRESS),
        (error(400, "INVALID_ARGUMENT", wrong("message.android.ttl")), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), wrong("message.data")), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT"), OUR_FAULT),
        # Of a message that is too large, which is none of its address: as it comes, and as it came before
        (error(400, "INVALID_ARGUMENT", {"@type": BAD_REQUEST}, fcm("INVALID_ARGUMENT"), says=TOO_LARGE), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT", {"@type": BAD_REQUEST}, fcm("INVALID_ARGUMENT")), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), says=TOO_LARGE), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), says="Android message is too big"), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), wrong("message.token"), says=NO_TOKEN), NO_ADDRESS),
        (
            error(400, "FAILED_PRECONDITION"),
            Rejected(Verdict.REJECTED, evidence={"status": 400, "code": "FAILED_PRECONDITION"}),
        ),
        # Addresses
        (error(404, "NOT_FOUND", fcm("UNREGISTERED")), gone(Verdict.GONE, 404, "UNREGISTERED")),
        (
            error(403, "PERMISSION_DENIED", fcm("SENDER_ID_MISMATCH")),
            gone(Verdict.OTHER_PROJECT, 403, "SENDER_ID_MISMATCH"),
        ),
        # An address of an iOS or web app, which whoever knows the app can make: no device halts the account with one.
        (
            error(401, "UNAUTHENTICATED", fcm("THIRD_PARTY_AUTH_ERROR")),
            gone(Verdict.THIRD_PARTY, 401, "THIRD_PARTY_AUTH_ERROR"),
        ),
        # Accounts
        (error(404, "NOT_FOUND"), refused(Verdict.NO_PROJECT, 404, "NOT_FOUND")),
        (
            error(403, "PERMISSION_DENIED", info("IAM_PERMISSION_DENIED")),
            refused(Verdict.ACCOUNT, 403, "IAM_PERMISSION_DENIED"),
        ),
        (error(403, "PERMISSION_DENIED", info("SERVICE_DISABLED")), refused(Verdict.ACCOUNT, 403, "SERVICE_DISABLED")),
        (Answer(403, b"<html>"), Misconfigured(Verdict.ACCOUNT, {"status": 403})),
        # Limits
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), Retry_After="90"),
            RetryLater(Verdict.LIMIT, 90.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), Retry_After="5"),
            RetryLater(Verdict.LIMIT, 5.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        (Answer(429, b""), RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence={"status": 429})),
        # Of a single device, which must not make all others wait
        (error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(subject="device:x"), Retry_After="5"), TOO_MANY),
        (error(429, "RESOURCE_EXHAUSTED", quota(description="Device message rate"), Retry_After="5"), TOO_MANY),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(description="device message rate")),
            dataclasses.replace(TOO_MANY, after_s=None),
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(subject="project:my-devices")),
            RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(subject="device:x"), quota(subject=7)),
            RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        # Faults of the service
        (
            error(500, "INTERNAL", fcm("INTERNAL"), Retry_After="2"),
            RetryLater(Verdict.UNCLEAR, 2.0, uncertain=True, evidence={"status": 500, "code": "INTERNAL"}),
        ),
        (
            error(503, "UNAVAILABLE", fcm("UNAVAILABLE"), Retry_After="7"),
            RetryLater(Verdict.LATER, 7.0, evidence={"status": 503, "code": "UNAVAILABLE"}),
        ),
        (Answer(503, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 503})),
        (Answer(408, b"<html>"), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 408})),
        (Answer(404, b"<html>"), RetryLater(Verdict.LATER, evidence={"status": 404})),
        (json_answer({"error": "words"}, 400), RetryLater(Verdict.LATER, evidence={"status": 400})),
        (json_answer({"error": {"details": 5}}, 400), RetryLater(Verdict.LATER, evidence={"status": 400})),
        (error(400, TOKEN, fcm(TOKEN), 7, wrong(TOKEN)), OUR_FAULT),
        (Answer(302, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 302})),
        (Answer(200, b""), STRANGE),
        (json_answer({"name": f"projects/my-project/{NAME}"}), STRANGE),
        (json_answer({"name": 5}), STRANGE),
        (json_answer({"name": f"projects/p/messages/{'x' * 200}"}), STRANGE),
    ],
)
async def test_answers(wire: Http2Wire, app: Fcm, answer: Answer, expected: Outcome) -> None:
    wire.answers.append(answer)
    assert await send(app) == expected
    assert len(wire.seen) == 1


async def test_a_success_whose_name_was_cut_off_is_one(wire: Http2Wire, app: Fcm) -> None:
    wire.otherwise = Http2Answer(200, (), ACCEPTED.body, reset_after=10)  # type: ignore[assignment]
    assert await send(app) == Accepted(WAKE.id, evidence={"status": 200})


@pytest.mark.parametrize(
    ("fault", "cause"),
    [(Raw(b""), "the connection was lost"), (Reset(INTERNAL_ERROR), "the server ended the stream")],
)
async def test_without_an_answer_it_may_have_been_taken(wire: Http2Wire, app: Fcm, fault: Any, cause: str) -> None:
    wire.answers.append(fault)
    assert await send(app) == RetryLater(cause, uncertain=True, evidence={"sendingAgain": AGAIN})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT")), Works("FCM takes the service account")),
        (error(404, "NOT_FOUND", fcm("UNREGISTERED")), Works("FCM takes the service account")),
        (ACCEPTED, Works("FCM takes the service account")),
        (
            error(403, "PERMISSION_DENIED", info("IAM_PERMISSION_DENIED")),
            Misconfigured(f"{Verdict.ACCOUNT} (IAM_PERMISSION_DENIED)"),
        ),
        (error(404, "NOT_FOUND"), Misconfigured(f"{Verdict.NO_PROJECT} (NOT_FOUND)")),
        (error(400, "INVALID_ARGUMENT", wrong("message.data")), Unavailable(f"{Verdict.REJECTED} (BAD_REQUEST)")),
        (error(503, "UNAVAILABLE", Retry_After="3"), Unavailable(Verdict.LATER, 3.0)),
        (Answer(404, b"<html>"), Unavailable(Verdict.LATER)),
        (Raw(b""), Unavailable("the connection was lost")),
    ],
)
async def test_probe(wire: Http2Wire, app: Fcm, answer: Any, expected: Any) -> None:
    wire.answers.append(answer)
    assert await app.probe() == expected
    assert wire.seen[0].json["validate_only"] is True
    assert wire.seen[0].json["message"]["token"] == NOBODY


async def test_it_never_tells_and_never_takes_back(app: Fcm) -> None:
    assert isinstance(await app.status("x", 1), CannotTell)
    assert isinstance(await app.withdraw("x"), CannotWithdraw)


def test_every_status_and_code_has_a_verdict() -> None:
    for status in range(1000):
        for code in ("", "UNREGISTERED", "NEVER_HEARD_OF"):
            assert isinstance(verdict_on(status, code), Verdict)
