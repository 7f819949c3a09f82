"""Web Push on the wire: what is sent, and what each answer means."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import http_ece  # type: ignore[import-untyped]
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode, base64url_encode

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.guard import Guard
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    PushMessage,
    Rejected,
    RetryLater,
    Unavailable,
    Withdrawn,
    Works,
)
from heliograph.providers import offer_of, webpush
from heliograph.providers.webpush import MAX_LIFE_S, MAX_TEXT_BYTES, WebPush
from heliograph.providers.webpush.subscription import Subscription, encrypt, read_subscription
from heliograph.providers.webpush.vapid import TOKEN_LIFE_S, TOKEN_RENEWED_S, Vapid
from heliograph.system import SystemClock
from tests.providers.samples import MESSAGES, NOTIFICATION, SILENT, WAKE, Contract, target, tools
from tests.support.wire import Action, Answer, Hang, Raw, Wire, closed_port

PRIVATE = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"  # of RFC 8291, appendix A
PUBLIC = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
VAPID = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
SECRET_PATH = "canaryENDPOINT19"
SUBJECT = "mailto:ops@example.com"
BASE = {"vapidPrivateKey": VAPID, "subject": SUBJECT}
WRONG: list[dict[str, Any]] = [
    {},
    {"vapidPrivateKey": VAPID},
    {"subject": SUBJECT},
    {**BASE, "subject": "ops@example.com"},
    {**BASE, "subject": "mailto:x"},
    {**BASE, "subject": "http://example.com"},
    {**BASE, "vapidPrivateKey": ""},
    {**BASE, "vapidPrivateKey": VAPID[:-4]},
    {**BASE, "vapidPrivateKey": VAPID + "!"},
    {**BASE, "vapidPrivateKey": "A" * 43},  # the number 0
    {**BASE, "vapidPrivateKey": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"},
    {**BASE, "vapidPrivateKey": "/" * 43},
    {**BASE, "allowedOrigins": "push.example"},
    {**BASE, "allowedOrigins": "http://push.example/path"},
    {**BASE, "allowedOrigins": "http://push.example,ftp://push.example"},
    {**BASE, "allowedOrigins": "http://u:p@push.example"},
    {**BASE, "allowedOrigins": ["http://push.example", "push.example"]},
    {**BASE, "allowedOrigins": [5]},
    {**BASE, "allowedOrigins": {}},
    {**BASE, "requestsPerMinute": -1},
    {**BASE, "more": 1},
]


def subscription(endpoint: str, p256dh: str = PUBLIC, auth: str = AUTH, **more: Any) -> str:
    return json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": {"p256dh": p256dh, "auth": auth}} | more)


BAD_TOKENS = [
    "{}",
    "[]",
    '{"endpoint":"https://push.example/x"}',
    subscription("https://push.example/" + "x" * 1000),
    subscription("push.example/x"),
    subscription("ftp://push.example/x"),
    subscription("https://user@push.example/x"),
    subscription("https://push.example/x#y"),
    subscription("https://push.example/x y"),
    subscription("https://push.example/\x00"),
    subscription("https://push.example/x", p256dh=PUBLIC[:-2] + "A4"),  # not on the curve
    subscription("https://push.example/x", p256dh=base64url_encode(b"\x02" + base64url_decode(PUBLIC)[1:33]).decode()),
    subscription("https://push.example/x", p256dh=""),
    subscription("https://push.example/x", p256dh="ü" * 87),
    subscription("https://push.example/x", auth=AUTH[:-2]),
    subscription("https://push.example/x", auth=AUTH + "AA"),
    subscription("https://push.example/x", auth="a b"),
    subscription("https://push.example/x", keys=[]),
    subscription("https://push.example/x") + "x",
    "{" * 2000 + "}",
]


def contract(url: str) -> Contract:
    return Contract(
        {**BASE, "allowedOrigins": url},
        [VAPID, AUTH, SECRET_PATH],
        subscription(f"{url}/{SECRET_PATH}"),
        wrong=WRONG,
        bad_tokens=BAD_TOKENS,
        reference=f"{url}/m/1",
        probes_nobody=True,
    )


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = SystemClock().now()

    def now(self) -> int:
        return self.at

    def elapsed(self) -> int:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        wire.otherwise = Answer(201, b"", {"Location": "/m/1"})
        yield wire


@pytest.fixture
async def app(wire: Wire, clock: Clock) -> AsyncIterator[WebPush]:
    app = WebPush(Vapid(VAPID, SUBJECT, clock), Guard([wire.url]), clock, timeout_s=30)
    yield app
    await app.close()


async def send(app: WebPush, wire: Wire, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("webpush", subscription(f"{wire.url}/{SECRET_PATH}?up=1")))


def decrypted(body: bytes, private: str = PRIVATE, auth: str = AUTH) -> bytes:
    key = ec.derive_private_key(int.from_bytes(base64url_decode(private)), ec.SECP256R1())
    text: bytes = http_ece.decrypt(body, private_key=key, auth_secret=base64url_decode(auth), version="aes128gcm")
    return text


# ---------------------------------------------------------------- encryption


def test_the_example_of_rfc_8291(monkeypatch: pytest.MonkeyPatch) -> None:
    # https://www.rfc-editor.org/rfc/rfc8291#section-5 and appendix A
    sender = ec.derive_private_key(
        int.from_bytes(base64url_decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")), ec.SECP256R1()
    )
    monkeypatch.setattr("heliograph.providers.webpush.subscription.ec.generate_private_key", lambda curve: sender)
    monkeypatch.setattr("http_ece.os.urandom", lambda count: base64url_decode("DGv6ra1nlYgDCS1FRnbzlw"))
    read = read_subscription(subscription("https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV"))
    assert isinstance(read, Subscription)
    body = encrypt(b"When I grow up, I want to be a watermelon", read)
    assert base64url_encode(body).decode() == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
        "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


def test_a_key_and_a_salt_are_used_once() -> None:
    read = read_subscription(subscription("https://push.example/x"))
    assert isinstance(read, Subscription)
    one, other = encrypt(b"x", read), encrypt(b"x", read)
    assert one[:16] != other[:16]
    assert one[21:86] != other[21:86]
    assert decrypted(one) == decrypted(other) == b"x"


def test_the_largest_text_fills_one_record() -> None:
    read = read_subscription(subscription("https://push.example/x"))
    assert isinstance(read, Subscription)
    assert len(encrypt(b"x" * MAX_TEXT_BYTES, read)) == 4096
    assert decrypted(encrypt(b"x" * MAX_TEXT_BYTES, read)) == b"x" * MAX_TEXT_BYTES


# ---------------------------------------------------------------- what is sent


@pytest.mark.parametrize(("message", "urgency"), [(WAKE, "high"), (NOTIFICATION, "normal"), (SILENT, "normal")])
async def test_a_push_as_it_goes_out(wire: Wire, app: WebPush, message: PushMessage, urgency: str) -> None:
    outcome = await send(app, wire, message)
    assert outcome == Accepted(f"{wire.url}/m/1", None, {"status": 201})
    (seen,) = wire.seen
    assert (seen.method, seen.target) == ("POST", f"/{SECRET_PATH}?up=1")
    assert seen.headers["ttl"] == str(message.life_s)
    assert seen.headers["urgency"] == urgency
    assert seen.headers["topic"] == message.id
    assert seen.headers["content-encoding"] == "aes128gcm"
    offer = json.loads(decrypted(seen.body))
    assert (offer["id"], offer["kind"], offer["expiresInMs"]) == (message.id, message.kind, message.life_s * 1000)
    assert offer.get("data") == message.data


async def test_no_life_is_longer_than_the_longest(wire: Wire, app: WebPush) -> None:
    await send(app, wire, PushMessage("e" * 24, "wake", 10**9))
    assert wire.seen[0].headers["ttl"] == str(MAX_LIFE_S)


async def test_an_id_that_is_no_topic_is_sent_without(wire: Wire, app: WebPush) -> None:
    await send(app, wire, PushMessage("x" * 33, "wake", 60))
    assert "topic" not in wire.seen[0].headers


async def test_who_sends_is_signed_once_for_each_service_and_few_hours(wire: Wire, app: WebPush, clock: Clock) -> None:
    public = ec.derive_private_key(int.from_bytes(base64url_decode(VAPID)), ec.SECP256R1()).public_key()
    raw = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    async def token() -> str:
        await send(app, wire)
        scheme, t, k = wire.seen[-1].headers["authorization"].split(" ")
        assert scheme == "vapid"
        assert k == f"k={base64url_encode(raw).decode()}"
        return t.removeprefix("t=").removesuffix(",")

    first = await token()
    now_s = clock.at // 1_000_000
    claims = jwt.decode(first, public, algorithms=["ES256"], audience=wire.url)
    assert claims == {"aud": wire.url, "exp": now_s + TOKEN_LIFE_S, "sub": SUBJECT}
    assert TOKEN_LIFE_S < 24 * 3600
    clock.at += (TOKEN_RENEWED_S - 1) * 1_000_000
    assert await token() == first
    clock.at += 1_000_000
    assert await token() != first


def test_the_audience_is_the_origin(clock: Clock) -> None:
    vapid = Vapid(VAPID, SUBJECT, clock)

    def audience(url: str) -> str:
        token = vapid.authorization(url).removeprefix("vapid t=").partition(",")[0]
        return str(jwt.decode(token, options={"verify_signature": False})["aud"])

    assert audience("https://Push.example:443/x?y") == "https://push.example"
    assert audience("https://push.example:8443/x") == "https://push.example:8443"
    assert audience("http://[::1]:8080/x") == "http://[::1]:8080"
    assert audience("http://push.example:80/x") == "http://push.example"


def test_tokens_for_ever_new_services_take_no_more_room(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliograph.providers.webpush.vapid._MOST_TOKENS", 3)
    vapid = Vapid(VAPID, SUBJECT, clock)
    kept = vapid.authorization("https://kept.example")
    for number in range(10):
        vapid.authorization(f"https://s{number}.example")
        assert vapid.authorization("https://kept.example") == kept
    assert len(vapid._tokens) == 3  # what shows it is memory


# ---------------------------------------------------------------- what answers mean

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


# ---------------------------------------------------------------- withdrawal


@pytest.mark.parametrize(
    ("location", "reference"),
    [
        ("/m/1", "{url}/m/1"),
        ("{url}/m/1?x=2", "{url}/m/1?x=2"),
        ("m/1", "{url}/m/1"),
        ("", WAKE.id),
        (f"/{SECRET_PATH}", WAKE.id),  # the subscription itself: to delete it is to lose the device
        (f"/{SECRET_PATH}/?x", WAKE.id),
        ("{url}/" + SECRET_PATH + "?up=1", WAKE.id),
        ("https://elsewhere.example/m/1", WAKE.id),
        ("//elsewhere.example/m/1", WAKE.id),
        ("http://127.0.0.1:1/m/1", WAKE.id),
        ("http://[x/m", WAKE.id),
        ("/m/" + "x" * 256, WAKE.id),
        ("/m/1#x", WAKE.id),
        ("/m 1", WAKE.id),
    ],
)
async def test_the_name_of_a_push(wire: Wire, app: WebPush, location: str, reference: str) -> None:
    wire.answers.append(Answer(201, b"", {"Location": location.format(url=wire.url)}))
    outcome = await send(app, wire)
    assert isinstance(outcome, Accepted)
    assert outcome.reference == reference.format(url=wire.url)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(204, b""), Withdrawn()),
        (Answer(200, b""), Withdrawn()),
        (Answer(200, b"{}"), Withdrawn()),
        (Answer(202, b""), Unavailable("an answer that is not a push service's")),
        (
            Answer(404, b""),
            CannotWithdraw("the push service knows no such push: it expired, was delivered, or was withdrawn"),
        ),
        (Answer(405, b""), CannotWithdraw("this push service takes no push back")),
        (Answer(501, b""), CannotWithdraw("this push service takes no push back")),
        (Answer(429, b"", {"Retry-After": "5"}), Unavailable("the push service cannot do it now", 5.0)),
        (Answer(503, b""), Unavailable("the push service cannot do it now")),
        (Raw(b""), Unavailable("RemoteProtocolError")),
    ],
)
async def test_withdrawal(wire: Wire, app: WebPush, answer: Action, expected: object) -> None:
    wire.answers.append(answer)
    assert await app.withdraw(f"{wire.url}/m/1") == expected
    assert (wire.seen[0].method, wire.seen[0].target, wire.seen[0].body) == ("DELETE", "/m/1", b"")


async def test_what_has_no_name_is_not_withdrawn(wire: Wire, app: WebPush) -> None:
    assert isinstance(await app.withdraw(WAKE.id), CannotWithdraw)
    assert wire.seen == []


async def test_nobody_says_what_became_of_a_push(app: WebPush) -> None:
    assert await app.status("x", 30) == CannotTell()
    probed = await app.probe()
    assert isinstance(probed, Works)
    assert probed.detail.split(" ")[-1].startswith("B")
    assert len(base64url_decode(probed.detail.split(" ")[-1])) == 65


# ---------------------------------------------------------------- settings, addresses and sizes


def test_the_size_is_that_of_the_text() -> None:
    def sized(characters: int) -> PushMessage:
        return PushMessage("a" * 24, "silent", 60, data={"x": "y" * characters})

    def size(message: PushMessage) -> int:
        return len(msgspec.json.encode(offer_of(message)))

    most = MAX_TEXT_BYTES - size(sized(0))
    assert webpush.PLUGIN.check(sized(most)) is None
    assert "at most 3993" in (webpush.PLUGIN.check(sized(most + 1)) or "")
    surrogate = PushMessage("a" * 24, "silent", 60, data={"x": "\ud800"})
    assert webpush.PLUGIN.check(surrogate) == "cannot be written as JSON"
    assert all(webpush.PLUGIN.check(message) is None for message in MESSAGES)


def test_a_key_may_come_as_pem() -> None:
    key = ec.derive_private_key(int.from_bytes(base64url_decode(VAPID)), ec.SECP256R1())
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        assert webpush.PLUGIN.read_config(Fields({**BASE, "vapidPrivateKey": pem}))["vapidPrivateKey"] == VAPID


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()])
def test_a_key_of_another_curve_or_with_a_password_is_refused(curve: ec.EllipticCurve) -> None:
    pkcs8, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    other = ec.generate_private_key(curve).private_bytes(pem, pkcs8, serialization.NoEncryption())
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        pem, pkcs8, serialization.BestAvailableEncryption(b"word")
    )
    for text in (other.decode(), locked.decode()):
        with pytest.raises(InvalidInput) as refusal:
            webpush.PLUGIN.read_config(Fields({**BASE, "vapidPrivateKey": text}))
        assert [fault.path for fault in refusal.value.fields] == ["vapidPrivateKey"]


async def test_settings() -> None:
    said = {**BASE, "allowedOrigins": " http://a.example:1/ , https://b.example", "requestsPerMinute": "60"}
    config = webpush.PLUGIN.read_config(Fields(said))
    assert config == {
        "vapidPrivateKey": VAPID,
        "subject": SUBJECT,
        "allowedOrigins": ["http://a.example:1/", "https://b.example"],
        "requestsPerMinute": 60,
    }
    assert webpush.PLUGIN.read_config(Fields(config)) == config
    assert webpush.PLUGIN.read_config(Fields(BASE))["allowedOrigins"] == []
    built = webpush.PLUGIN.build(config, tools())
    assert isinstance(built, WebPush)
    await built.close()


def test_an_address_may_have_other_members_and_padding() -> None:
    read = read_subscription(subscription("https://push.example/x", auth=AUTH + "==", contentEncodings=["aes128gcm"]))
    assert isinstance(read, Subscription)
    assert (len(read.point), len(read.auth)) == (65, 16)
