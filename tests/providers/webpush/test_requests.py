"""What is sent to a push service, and who it says has sent it."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode, base64url_encode

from heliograph.ports.push import Accepted, PushMessage
from heliograph.providers.webpush import MAX_LIFE_S, WebPush
from heliograph.providers.webpush.vapid import TOKEN_LIFE_S, TOKEN_RENEWED_S, Vapid
from tests.providers.samples import NOTIFICATION, SILENT, WAKE
from tests.providers.test_webpush import SECRET_PATH, SUBJECT, VAPID, Clock
from tests.providers.webpush.rig import decrypted, send
from tests.support.wire import Wire


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
