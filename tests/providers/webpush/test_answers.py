"""What the answers of push services mean, and what pages in their place do not."""

from __future__ import annotations

import pytest

from heliograph.guard import Guard
from heliograph.ports.push import Accepted, CannotWithdraw, Misconfigured, Outcome, Rejected, RetryLater, Unavailable
from heliograph.providers.webpush import WebPush
from heliograph.providers.webpush.vapid import Vapid
from tests.providers.samples import WAKE, target
from tests.providers.test_webpush import SUBJECT, VAPID, Clock, subscription
from tests.providers.webpush.rig import send
from tests.support.wire import Action, Answer, Hang, Raw, Wire, closed_port

UNKNOWN = "the push service knows no such subscription"
LATER = "the push service cannot take it now"
KEY = "the push service does not accept the account's VAPID key"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(404, b""), Rejected(UNKNOWN, token_gone=True, evidence={"status": 404}, one_device=True)),
        (
            Answer(410, b'{"errno":106}'),
            Rejected(UNKNOWN, token_gone=True, evidence={"status": 410, "errno": 106}, one_device=True),
        ),
        (Answer(413, b""), Rejected("the push is too large for this push service", evidence={"status": 413})),
        (Answer(400, b""), Rejected("the push service will not take this push", evidence={"status": 400})),
        (
            Answer(307, b"", {"Location": "/x"}),
            Rejected("the push service will not take this push", evidence={"status": 307}),
        ),
        (Answer(429, b"", {"Retry-After": "7"}), RetryLater(LATER, 7.0, evidence={"status": 429})),
        # Microsoft's, of too many: https://github.com/web-push-libs/web-push-csharp/issues/93
        (
            Answer(406, b"", {"Retry-After": "900", "X-WNS-Status": "appthrottled"}),
            RetryLater(LATER, 900.0, evidence={"status": 406}),
        ),
        # Of a proxy on the way, and of a server whose connection is not for this host: RFC 9110, 15.5.8 and 15.5.20.
        (Answer(407, b"<html>"), RetryLater(LATER, evidence={"status": 407})),
        (Answer(421, b"<html>"), RetryLater(LATER, evidence={"status": 421})),
        (Answer(503, b"", {"Retry-After": "120"}), RetryLater(LATER, 120.0, evidence={"status": 503})),
        (Answer(507, b""), RetryLater(LATER, evidence={"status": 507})),
        (Answer(408, b"<html>"), RetryLater("the push service failed", uncertain=True, evidence={"status": 408})),
        (Answer(500, b""), RetryLater("the push service failed", uncertain=True, evidence={"status": 500})),
        (Answer(502, b"<html>"), RetryLater("the push service failed", uncertain=True, evidence={"status": 502})),
        (
            Answer(403, b'{"reason":"BadJwtToken"}'),
            Misconfigured(KEY, {"status": 403, "reason": "BadJwtToken"}, one_device=True),
        ),
        (
            Answer(401, b'{"reason":"x <b>"}'),
            Misconfigured(KEY, {"status": 401}, one_device=True),
        ),
        (Raw(b""), RetryLater("RemoteProtocolError", uncertain=True)),
        (Raw(b"HTTP/1.1 201 Cre"), RetryLater("RemoteProtocolError", uncertain=True)),
    ],
)
async def test_a_refusal(wire: Wire, app: WebPush, answer: Action, expected: Outcome) -> None:
    wire.answers.append(answer)
    assert await send(app, wire) == expected
    assert len(wire.seen) == 1


PAGE = {"Content-Type": "text/html; charset=utf-8"}
STRANGE = "an answer that is not a push service's"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(201, b"", {"Location": "/m/1"}),  # RFC 8030, and the services of all browsers
        Answer(201, b"", PAGE),  # a type without a body is no page: Google's front ends name one
        Answer(201, b"created", {"Content-Type": "text/plain"}),
        Answer(201, b"", missing=9),  # the status counts
        Answer(202, b""),
        Answer(202, b'{"message-id":"x"}'),
        Answer(200, b"", {"TTL": "259200", "Location": "/m/1"}),  # Mozilla's for some phones
        Answer(200, b'{"id":"x","event":"message","topic":"up1"}\n', {"Content-Type": "application/json"}),  # ntfy
        Answer(204, b""),
    ],
)
async def test_what_services_answer_to_a_push_that_they_take(wire: Wire, app: WebPush, answer: Answer) -> None:
    wire.answers.append(answer)
    assert isinstance(await send(app, wire), Accepted)


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(status, b"<!DOCTYPE html><html>Log in</html>", PAGE) for status in (200, 201, 202, 203, 206)),
        *(Answer(status, b"\xef\xbb\xbf \r\n<html>Log in</html>") for status in (200, 201, 202, 203, 206)),
        *(Answer(status, b"Log in", PAGE) for status in (200, 201, 202)),
        *(Answer(status, b"<html>", PAGE, missing=9) for status in (200, 201, 202)),
        Answer(200, b"", PAGE, missing=9),
        Answer(200, b"", missing=9),
        Answer(200, b"x" * 2_000_000),
        Answer(200, b"OK"),
        Answer(200, b"\xff\xfe\x00"),
        *(Answer(200, body) for body in (b"null", b"[]", b'"taken"', b'{"id":')),
        Answer(203, b""),
        Answer(205, b""),
    ],
)
async def test_what_is_no_service_s_word_takes_no_push_and_withdraws_none(
    wire: Wire, app: WebPush, answer: Answer
) -> None:
    wire.otherwise = answer
    assert await send(app, wire) == RetryLater(STRANGE, uncertain=True, evidence={"status": answer.status})
    said = await app.withdraw(f"{wire.url}/m/1")
    assert said == Unavailable(STRANGE)


async def test_a_single_subscription_that_wants_another_key_does_not_stop_the_account(wire: Wire, app: WebPush) -> None:
    assert isinstance(await send(app, wire), Accepted)
    wire.answers.append(Answer(403, b""))
    outcome = await send(app, wire)
    assert isinstance(outcome, Rejected)
    assert outcome.token_gone


async def test_a_life_that_the_service_shortens(wire: Wire, app: WebPush, clock: Clock) -> None:
    async def expires_at(ttl: str) -> int | None:
        wire.answers.append(Answer(201, b"", {"TTL": ttl}))
        outcome = await send(app, wire)
        assert isinstance(outcome, Accepted)
        return outcome.expires_at

    assert await expires_at("60") == clock.at + 60_000_000
    assert await expires_at("0") == clock.at
    assert await expires_at("999999") == clock.at + WAKE.life_s * 1_000_000
    assert await expires_at("x") is None
    assert await expires_at("-5") is None
    assert await expires_at("9" * 100) is None


async def test_no_answer_in_time(wire: Wire, clock: Clock) -> None:
    app = WebPush(Vapid(VAPID, SUBJECT, clock), Guard([wire.url]), clock, timeout_s=0.1)
    wire.otherwise = Hang()
    assert await send(app, wire) == RetryLater("no answer in time", uncertain=True)
    await app.close()


async def test_a_service_that_is_not_there(clock: Clock) -> None:
    url = await closed_port()
    app = WebPush(Vapid(VAPID, SUBJECT, clock), Guard([url]), clock, timeout_s=30)
    assert await app.send(WAKE, target("webpush", subscription(f"{url}/x"))) == RetryLater("ConnectError")
    await app.close()


async def test_an_endpoint_that_only_this_machine_can_reach(wire: Wire, clock: Clock) -> None:
    app = WebPush(Vapid(VAPID, SUBJECT, clock), Guard(), clock, timeout_s=30)
    for endpoint in (f"{wire.url}/x", "https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x"):
        outcome = await app.send(WAKE, target("webpush", subscription(endpoint)))
        assert isinstance(outcome, Rejected), endpoint
        assert outcome.token_gone
        assert outcome.reason.startswith("nothing may be sent to this endpoint: ")
        assert isinstance(await app.withdraw(f"{wire.url}/m/1"), CannotWithdraw)
    assert wire.seen == []
    await app.close()
