"""APNs on the wire: what is sent, and what each answer means."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import jwt
import msgspec
import pytest

from heliograph.domain.devices import PushTarget
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    PushMessage,
    Rejected,
    RetryLater,
    Tools,
    Unavailable,
    Works,
)
from heliograph.providers.apns import MAX_BODY_BYTES, PLUGIN
from heliograph.providers.apns.answers import Verdict, verdict_on
from heliograph.providers.apns.sending import MAX_LIFE_S, NOBODY, Apns, id_of
from heliograph.providers.transport.answers import AGAIN
from heliograph_lab.http2 import GoAway, Reset
from heliograph_lab.http2.model import CANCEL, ENHANCE_YOUR_CALM
from heliograph_protocol.messages import PushOffer
from tests.providers.credentials import ec_key, identity, p8, pem_of
from tests.providers.samples import NOTIFICATION, SILENT, WAKE, Contract, target
from tests.providers.transport.clock import StandingClock
from tests.providers.transport.tls import RefusingTls
from tests.support.wire import Answer, Hang, Raw, json_answer
from tests.support.wire_http2 import Http2Wire, ca_pem, tls

TOKEN = "0123456789abcdef" * 4
TOPIC = "com.example.agent"
MDM_TOPIC = "com.apple.mgmt.External.0d8f1c0e-0000-4000-8000-000000000000"
MDM = json.dumps({"token": TOKEN, "pushMagic": "canaryMAGIC 19", "topic": MDM_TOPIC})
IDS = {"keyId": "ABC123DEFG", "teamId": "TEAM123456"}
WRONG: list[dict[str, Any]] = [
    {},
    {"topic": TOPIC},
    {**IDS, "topic": TOPIC},
    {**IDS, "topic": TOPIC, "key": "canary"},
    {**IDS, "topic": TOPIC, "key": 5},
    {"apiKey": "x"},
]


def config(url: str, **changes: Any) -> dict[str, Any]:
    return {**IDS, "key": p8(), "topic": TOPIC, "baseUrl": url, "ca": ca_pem()} | changes


def contract(url: str) -> Contract:
    secrets = [*p8().splitlines()[1:-1], TOKEN]
    bad = [TOKEN[1:], f" {TOKEN}", "g" * 64, "ab" * 101, f"{'a' * 22}:APA91b{'b' * 134}", MDM]
    return Contract(config(url), secrets, TOKEN, wrong=WRONG, bad_tokens=bad, over_http2=True)


@pytest.fixture
async def wire() -> AsyncIterator[Http2Wire]:
    async with Http2Wire().serving() as wire:
        wire.otherwise = Answer(200, b"")
        yield wire


def built(tools: Tools, url: str, **changes: Any) -> Apns:
    settings = {"environment": "production"} | config(url, **changes)
    provider = PLUGIN.build({name: value for name, value in settings.items() if value is not None}, tools)
    assert isinstance(provider, Apns)
    return provider


@pytest.fixture
def app(tools: Tools, wire: Http2Wire) -> Apns:
    return built(tools, wire.url)


async def send(app: Apns, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("apns", TOKEN))


# ---------------------------------------------------------------- send


@pytest.mark.parametrize(
    ("message", "kind", "priority", "collapse", "aps"),
    [
        (WAKE, "background", "5", "wake", {"content-available": 1}),
        (SILENT, "background", "5", None, {"content-available": 1}),
        (
            NOTIFICATION,
            "alert",
            "10",
            NOTIFICATION.id,
            {"alert": {"title": "Hello", "body": "Wörld"}, "sound": "default", "content-available": 1},
        ),
    ],
)
async def test_the_request(
    wire: Http2Wire,
    app: Apns,
    clock: StandingClock,
    message: PushMessage,
    kind: str,
    priority: str,
    collapse: str | None,
    aps: Any,
) -> None:
    assert await send(app, message) == Accepted(id_of(message.id), evidence={"status": 200})
    (seen,) = wire.seen
    assert (seen.method, seen.target) == ("POST", f"/3/device/{TOKEN}")
    apple = {name: value for name, value in seen.headers.items() if name.startswith("apns-")}
    assert apple == {
        "apns-id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"heliograph:push:{message.id}")),
        "apns-topic": TOPIC,
        "apns-push-type": kind,
        "apns-priority": priority,
        "apns-expiration": str(clock.now() // 1_000_000 + message.life_s),
        **({"apns-collapse-id": collapse} if collapse else {}),
    }
    scheme, _, token = seen.headers["authorization"].partition(" ")
    assert scheme == "bearer"
    options: Any = {"verify_iat": False}
    assert jwt.decode(token, ec_key().public_key(), ["ES256"], options) == {
        "iss": IDS["teamId"],
        "iat": clock.now() // 1_000_000,
    }
    assert jwt.get_unverified_header(token)["kid"] == IDS["keyId"]
    assert seen.json.keys() == {"aps", "heliograph"}
    assert seen.json["aps"] == aps
    shown = message.kind == "notification"
    assert msgspec.convert(seen.json["heliograph"], PushOffer) == PushOffer(
        id=message.id,
        kind=message.kind,  # type: ignore[arg-type]  # the port names the same three kinds
        expires_in_ms=message.life_s * 1000,
        command_id=message.command_id,
        title=None if shown else message.title,
        body=None if shown else message.body,
        data=message.data,
    )


def test_an_id_is_the_name_based_uuid_of_the_push() -> None:
    names = [f"push-{number}" for number in range(500)]
    ids = [id_of(name) for name in names]
    assert ids == [str(uuid.uuid5(uuid.NAMESPACE_URL, f"heliograph:push:{name}")) for name in names]


async def test_all_attempts_carry_one_id_and_other_pushes_another(wire: Http2Wire, app: Apns) -> None:
    for message in (WAKE, WAKE, SILENT):
        await send(app, message)
    first, second, other = (seen.headers["apns-id"] for seen in wire.seen)
    assert first == second != other


@pytest.mark.parametrize(("life_s", "sent"), [(0, 1), (-5, 1), (60, 60), (10**9, MAX_LIFE_S)])
async def test_a_push_is_always_kept_for_a_while(
    wire: Http2Wire, app: Apns, clock: StandingClock, life_s: int, sent: int
) -> None:
    await send(app, PushMessage("a" * 24, "wake", life_s))
    assert wire.seen[0].headers["apns-expiration"] == str(clock.now() // 1_000_000 + sent)


async def test_each_app_has_its_topic(wire: Http2Wire, tools: Tools) -> None:
    app = built(tools, wire.url, topic=None, topics={"mdmAgent": "com.example.a", "kioskLauncher": "com.example.b"})
    for name in ("mdmAgent", "kioskLauncher"):
        assert isinstance(await app.send(WAKE, PushTarget("d", name, "apns", None, TOKEN, 0)), Accepted)
    assert [seen.headers["apns-topic"] for seen in wire.seen] == ["com.example.a", "com.example.b"]
    assert await app.send(WAKE, PushTarget("d", "remoteSupport", "apns", None, TOKEN, 0)) == Rejected(
        "the account has no topic for this app"
    )


async def test_what_stands_in_a_token_cannot_leave_its_place(wire: Http2Wire, app: Apns) -> None:
    await app.send(WAKE, target("apns", "../x?y#z"))
    assert wire.seen[0].target == "/3/device/..%2Fx%3Fy%23z"


def said(status: int, reason: str, **headers: str) -> Answer:
    return json_answer({"reason": reason}, status, **headers)


def seen(status: int, reason: str) -> dict[str, Any]:
    return {"status": status, "reason": reason}


def account(status: int, reason: str, verdict: Verdict = Verdict.ACCOUNT) -> Misconfigured:
    return Misconfigured(f"{verdict} ({reason})", seen(status, reason))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            json_answer({"reason": "Unregistered", "timestamp": 1_700_000_000_123}, 410),
            Rejected(Verdict.GONE, True, 1_700_000_000_123_000, seen(410, "Unregistered")),
        ),
        (
            json_answer({"reason": "ExpiredToken", "timestamp": 1}, 410),
            Rejected(Verdict.GONE, True, 1000, seen(410, "ExpiredToken")),
        ),
        *(
            (
                json_answer({"reason": "Unregistered", "timestamp": odd}, 410),
                Rejected(Verdict.GONE, True, None, seen(410, "Unregistered")),
            )
            for odd in (None, True, "1", 1.5, -1, 10**18, [1])
        ),
        (said(410, "NeverHeardOf"), Rejected(Verdict.GONE, True, evidence=seen(410, "NeverHeardOf"))),
        (Answer(410, b""), RetryLater(Verdict.LATER, evidence={"status": 410})),
        *(
            (said(400, reason), Rejected(Verdict.NOT_OURS, True, evidence=seen(400, reason)))
            for reason in ("BadDeviceToken", "DeviceTokenNotForTopic", "MissingDeviceToken")
        ),
        *(
            (said(400, reason), Rejected(Verdict.REJECTED, evidence=seen(400, reason)))
            for reason in ("BadCollapseId", "BadPriority", "PayloadEmpty", "NeverHeardOf")
        ),
        (said(413, "PayloadTooLarge"), Rejected(Verdict.REJECTED, evidence=seen(413, "PayloadTooLarge"))),
        (Answer(413, b""), Rejected(Verdict.REJECTED, evidence={"status": 413})),
        (said(404, "BadPath"), Rejected(Verdict.REJECTED, evidence=seen(404, "BadPath"))),
        *(
            (said(403, reason), account(403, reason))
            for reason in (
                *("InvalidProviderToken", "MissingProviderToken", "BadCertificate", "BadCertificateEnvironment"),
                *("Forbidden", "NeverHeardOf"),
            )
        ),
        *((said(400, reason), account(400, reason)) for reason in ("TopicDisallowed", "BadTopic", "MissingTopic")),
        (said(403, "ExpiredProviderToken"), account(403, "ExpiredProviderToken", Verdict.CLOCK)),
        (Answer(403, b"<html>"), Misconfigured(Verdict.ACCOUNT, {"status": 403})),
        (said(429, "TooManyRequests"), RetryLater(Verdict.DEVICE_LIMIT, evidence=seen(429, "TooManyRequests"))),
        (
            said(429, "TooManyRequests", Retry_After="7"),
            RetryLater(Verdict.DEVICE_LIMIT, 7.0, evidence=seen(429, "TooManyRequests")),
        ),
        (
            said(429, "TooManyProviderTokenUpdates"),
            RetryLater(Verdict.LIMIT, account_wide=True, evidence=seen(429, "TooManyProviderTokenUpdates")),
        ),
        (Answer(429, b""), RetryLater(Verdict.LIMIT, account_wide=True, evidence={"status": 429})),
        (
            said(500, "InternalServerError", Retry_After="3"),
            RetryLater(Verdict.UNCLEAR, 3.0, uncertain=True, evidence=seen(500, "InternalServerError")),
        ),
        (
            said(503, "ServiceUnavailable", Retry_After="11"),
            RetryLater(Verdict.LATER, 11.0, evidence=seen(503, "ServiceUnavailable")),
        ),
        (said(503, "Shutdown"), RetryLater(Verdict.LATER, evidence=seen(503, "Shutdown"))),
        (Answer(503, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 503})),
        (Answer(408, b"<html>"), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 408})),
        (Answer(404, b"<html>"), RetryLater(Verdict.LATER, evidence={"status": 404})),
        (Answer(400, b"[]"), RetryLater(Verdict.LATER, evidence={"status": 400})),
        (said(400, TOKEN), RetryLater(Verdict.LATER, evidence={"status": 400})),  # what is no word is not repeated
        (Answer(302, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 302})),
        (Answer(200, b"{}"), RetryLater("an answer that is not APNs'", uncertain=True, evidence={"status": 200})),
        (Answer(204, b""), RetryLater("an answer that is not APNs'", uncertain=True, evidence={"status": 204})),
        (
            Answer(200, b"", {"apns-id": "EEC1CD80-6E54-4B5C-9F39-0F2E3B3C2B1A"}),
            Accepted("eec1cd80-6e54-4b5c-9f39-0f2e3b3c2b1a", evidence={"status": 200}),
        ),
        (Answer(200, b"", {"apns-id": TOKEN[:20]}), Accepted(id_of(WAKE.id), evidence={"status": 200})),
    ],
)
async def test_answers(wire: Http2Wire, app: Apns, answer: Answer, expected: Outcome) -> None:
    wire.answers.append(answer)
    assert await send(app) == expected
    assert len(wire.seen) == 1


def lost(cause: str, **evidence: str) -> RetryLater:
    return RetryLater(cause, uncertain=True, evidence={**evidence, "sendingAgain": AGAIN})


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Reset(CANCEL), lost("the server ended the stream")),
        (Raw(b""), lost("the connection was lost")),
    ],
)
async def test_without_an_answer_it_may_have_been_taken(
    wire: Http2Wire, app: Apns, fault: Any, expected: RetryLater
) -> None:
    wire.answers.append(fault)
    assert await send(app) == expected
    assert isinstance(await send(app), Accepted)
    assert wire.seen[0].headers["apns-id"] == wire.seen[1].headers["apns-id"]


async def test_silence_ends_in_time(wire: Http2Wire, app: Apns) -> None:
    wire.answers.append(Hang())
    app._timeout_s = 0.3
    assert await send(app) == lost("no answer in time")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            "BadCertificateEnvironment",
            Misconfigured(f"{Verdict.ACCOUNT} (BadCertificateEnvironment)", {"reason": "BadCertificateEnvironment"}),
        ),
        ("Shutdown", RetryLater("the connection was being shut down", evidence={"reason": "Shutdown"})),
    ],
)
async def test_a_reason_may_come_with_the_end_of_a_connection(
    wire: Http2Wire, app: Apns, reason: str, expected: Outcome
) -> None:
    wire.otherwise = GoAway(code=ENHANCE_YOUR_CALM, debug=json.dumps({"reason": reason}).encode())  # type: ignore[assignment]
    assert await send(app) == expected


async def test_a_server_that_nobody_vouches_for_is_a_matter_of_settings(wire: Http2Wire, tools: Tools) -> None:
    app = built(tools, wire.url, ca=None)
    assert await send(app) == Misconfigured("no connection: the server's certificate is not trusted")
    assert wire.seen == []


async def test_a_certificate_that_is_not_let_in_is_a_matter_of_settings(tools: Tools) -> None:
    with RefusingTls(tls()) as server:
        settings = {"certificate": identity(), "environment": "production", "baseUrl": server.url, "ca": ca_pem()}
        app = PLUGIN.build(settings, tools)
        outcome = await app.send(WAKE, target("apns", TOKEN))
        await app.close()
    assert outcome == Misconfigured("no connection: the server refused the client certificate")


# ---------------------------------------------------------------- provider tokens


def bearers(wire: Http2Wire) -> list[str]:
    return [seen.headers["authorization"] for seen in wire.seen]


async def test_a_token_serves_all_accounts_of_its_key_for_40_minutes(
    wire: Http2Wire, app: Apns, tools: Tools, clock: StandingClock
) -> None:
    other = built(tools, wire.url, topic="com.example.other")
    await send(app)
    clock.advance(39 * 60)
    await send(other)
    clock.advance(60)
    await send(app)
    first, second, third = bearers(wire)
    assert first == second != third
    assert wire.server.counts.connections == 1


async def test_an_expired_token_is_renewed_once_and_the_push_sent_again(
    wire: Http2Wire, app: Apns, clock: StandingClock
) -> None:
    await send(app)
    clock.advance(25 * 60)
    wire.answers.append(said(403, "ExpiredProviderToken"))
    assert isinstance(await send(app), Accepted)
    first, refused, renewed = bearers(wire)
    assert first == refused != renewed
    clock.advance(25 * 60)
    wire.answers.extend([said(403, "ExpiredProviderToken")] * 2)
    assert await send(app) == account(403, "ExpiredProviderToken", Verdict.CLOCK)
    assert len(wire.seen) == 5


async def test_an_account_that_is_refused_is_tried_over_a_new_connection(
    wire: Http2Wire, app: Apns, clock: StandingClock
) -> None:
    """APNs looks up what a team may send to when a connection is made, and knows no topic that it has got since."""
    refused = said(400, "TopicDisallowed")
    assert isinstance(await send(app), Accepted)
    clock.advance(60)
    wire.answers.append(refused)
    assert isinstance(await send(app), Accepted)
    assert len(wire.seen) == 3
    wire.answers.append(refused)  # a connection that is new knows them all
    assert await send(app) == account(400, "TopicDisallowed")
    assert len(wire.seen) == 4
    clock.advance(60)
    wire.answers.extend([refused] * 2)
    assert await send(app) == account(400, "TopicDisallowed")
    assert len(wire.seen) == 6


async def test_a_key_of_ones_own_under_anothers_ids_shares_neither_tokens_nor_connection(
    wire: Http2Wire, app: Apns, tools: Tools
) -> None:
    thief = built(tools, wire.url, key=pem_of(ec_key(1)))
    await send(app)
    await send(thief)
    first, second = bearers(wire)
    assert first != second
    assert wire.server.counts.connections == 2


# ---------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (said(400, "BadDeviceToken"), Works(f"APNs takes the account for {TOPIC}")),
        (said(400, "DeviceTokenNotForTopic"), Works(f"APNs takes the account for {TOPIC}")),
        (said(410, "Unregistered"), Works(f"APNs takes the account for {TOPIC}")),
        (Answer(200, b""), Works(f"APNs takes the account for {TOPIC}")),
        (said(403, "InvalidProviderToken"), Misconfigured(f"{Verdict.ACCOUNT} (InvalidProviderToken)")),
        (said(400, "TopicDisallowed"), Misconfigured(f"{Verdict.ACCOUNT} (TopicDisallowed)")),
        (said(400, "BadPriority"), Unavailable(f"{Verdict.REJECTED} (BadPriority)")),
        (said(503, "Shutdown", Retry_After="4"), Unavailable(Verdict.LATER, 4.0)),
        (Answer(200, b"{}"), Unavailable("an answer that is not APNs'")),
        (Answer(404, b"<html>"), Unavailable(Verdict.LATER)),
        (Raw(b""), Unavailable("the connection was lost")),
    ],
)
async def test_probe(wire: Http2Wire, app: Apns, answer: Any, expected: Any) -> None:
    wire.answers.append(answer)
    assert await app.probe() == expected
    assert wire.seen[0].target == f"/3/device/{NOBODY}"
    assert wire.seen[0].headers["apns-push-type"] == "background"


async def test_it_never_tells_and_never_takes_back(app: Apns) -> None:
    assert isinstance(await app.status("x", 1), CannotTell)
    assert isinstance(await app.withdraw("x"), CannotWithdraw)


def test_what_fits() -> None:
    def sized(characters: int, kind: str = "silent") -> PushMessage:
        return PushMessage("a" * 24, kind, 60, title="t", body="b", data={"x": "y" * characters})

    for kind in ("silent", "notification", "wake"):
        most = max(n for n in range(3500, 4100) if PLUGIN.check(sized(n, kind)) is None)
        reason = PLUGIN.check(sized(most + 1, kind)) or ""
        assert reason == f"is too large for APNs: {MAX_BODY_BYTES + 1} bytes, at most {MAX_BODY_BYTES}"
    assert PLUGIN.check(PushMessage("a", "silent", 1, data={"x": object()})) == "cannot be written as JSON"


def test_every_status_and_reason_has_a_verdict() -> None:
    for status in range(1000):
        for reason in ("", "Unregistered", "NeverHeardOf"):
            assert isinstance(verdict_on(status, reason), Verdict)
