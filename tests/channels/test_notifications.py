"""Pub/Sub as a subscriber, and the tokens under which it pushes, over real connections."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from heliograph.channels import AmapiChannels, AmapiSettings
from heliograph.channels.oidc import TokenVerifier
from heliograph.channels.pubsub import PubSubSubscription
from heliograph.domain.devices import Enterprise
from heliograph.outbound import Outbound
from heliograph.outbound.google import TokenSource
from heliograph.ports.channel import Gone, Unreachable
from tests.channels.google import Google, account, account_file
from tests.support.sealing import TestBox
from tests.support.wire import Action, Answer, Hang, Raw, Seen, json_answer

NAME = "projects/p/subscriptions/helio"
AUDIENCE, EMAIL = "https://mdm.example/google", "push@p.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
async def subscription(google: Google) -> AsyncIterator[PubSubSubscription]:
    tokens, http = TokenSource(account(google.token_uri)), Outbound(google.wire.url)
    yield PubSubSubscription(NAME, tokens, http)
    await http.close()
    await tokens.close()


async def test_messages_are_pulled_acknowledged_and_put_off(google: Google, subscription: PubSubSubscription) -> None:
    data = base64.b64encode(json.dumps({"name": "enterprises/e/devices/d"}).encode()).decode()
    message = {"data": data, "attributes": {"notificationType": "STATUS_REPORT"}, "messageId": "7"}
    google.api = lambda seen: json_answer(
        {"receivedMessages": [{"ackId": "a1", "message": message}, {"ackId": 5}, "nonsense"]}
        if seen.path.endswith(":pull")
        else {}
    )
    received = await subscription.pull(10)
    assert isinstance(received, list)
    assert [(r.ack_id, r.notification.id, r.notification.kind) for r in received] == [("a1", "7", "STATUS_REPORT")]
    assert await subscription.acknowledge(["a1"]) is None
    assert await subscription.put_off(["a2"], 10) is None
    asked = [(seen.path, seen.json) for seen in google.wire.seen if not seen.path.startswith("/token")]
    assert asked == [
        (f"/v1/{NAME}:pull", {"maxMessages": 10}),
        (f"/v1/{NAME}:acknowledge", {"ackIds": ["a1"]}),
        (f"/v1/{NAME}:modifyAckDeadline", {"ackIds": ["a2"], "ackDeadlineSeconds": 10}),
    ]


async def test_pulls_that_wait_keep_no_other_enterprise_waiting(google: Google) -> None:
    """Pub/Sub holds each empty pull open, and all enterprises' pulls go there."""
    key = account_file(google.token_uri)
    enterprise = Enterprise("e", "o", "android", "enterprises/e", 0, TestBox().seal(key), subscription=NAME)
    channels = AmapiChannels(nothing_stored, TestBox(), AmapiSettings(google.wire.url, google.wire.url))
    waiting = asyncio.Semaphore(0)

    def answer(seen: Seen) -> Action:
        if not seen.path.endswith(":pull"):
            return json_answer({})
        waiting.release()
        return Hang()

    google.api = answer
    subscription = await channels.subscription(enterprise)
    assert subscription is not None
    pulls = [asyncio.create_task(subscription.pull(10)) for _ in range(150)]
    try:
        async with asyncio.timeout(20):
            for _ in pulls:
                await waiting.acquire()
        assert await subscription.acknowledge(["a1"]) is None
    finally:
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
        await channels.close()


async def nothing_stored(organization_id: str, enterprise_id: str) -> None:
    return None


async def test_nothing_to_say_is_not_said(google: Google, subscription: PubSubSubscription) -> None:
    assert await subscription.acknowledge([]) is None
    assert google.wire.seen == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (json_answer({}), list),
        (json_answer({"receivedMessages": {}}), Unreachable),
        (Answer(503), Unreachable),
        (Answer(200, b"<html>"), Unreachable),
        (Raw(), Unreachable),
        (json_answer({"error": {"status": "NOT_FOUND", "message": "no"}}, 404), Gone),
    ],
)
async def test_whatever_the_service_answers_is_a_value(
    google: Google, subscription: PubSubSubscription, answer: Any, kind: type
) -> None:
    google.api = lambda _: answer
    assert isinstance(await subscription.pull(1), kind)


# ---------------------------------------------------------------- tokens


def token(key: rsa.RSAPrivateKey = KEY, kid: str = "k1", algorithm: str = "RS256", **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": EMAIL,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    } | changes
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, "x" * 32 if algorithm == "HS256" else key, algorithm=algorithm, headers={"kid": kid})


def certs(**keys: rsa.RSAPrivateKey) -> dict[str, Any]:
    listed = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"}
        for kid, key in keys.items()
    ]
    return {"keys": [{"kty": "EC"}, "nonsense", *listed]}


class Certs:
    """Google's keys, a clock to move, and how often they were asked for."""

    def __init__(self, google: Google) -> None:
        self.google, self.now = google, 0.0
        self.verifier = TokenVerifier(f"{google.wire.url}/certs", lambda: self.now)
        self.serve(certs(k1=KEY))

    def serve(self, document: Any) -> None:
        self.google.api = lambda _: document if isinstance(document, Answer | Raw) else json_answer(document)

    async def check(self, text: str) -> bool | Unreachable:
        return await self.verifier.is_genuine(text, AUDIENCE, EMAIL)

    @property
    def fetches(self) -> int:
        return sum(seen.path == "/certs" for seen in self.google.wire.seen)


@pytest.fixture
async def keys(google: Google) -> AsyncIterator[Certs]:
    found = Certs(google)
    yield found
    await found.verifier.close()


async def test_google_s_own_token_is_genuine(keys: Certs) -> None:
    assert await keys.check(token()) is True
    assert await keys.check(token(iss="accounts.google.com")) is True
    assert await keys.check(token(iat=int(time.time()) + 600)) is True  # our clock is ten minutes slow
    assert keys.fetches == 1


@pytest.mark.parametrize(
    "forged",
    [
        token(OTHER_KEY),
        token(aud="https://elsewhere.example"),
        token(aud=None),
        token(iss="https://evil.example"),
        token(email="somebody@gmail.com"),
        token(email_verified=False),
        token(email_verified="true"),
        token(exp=int(time.time()) - 120),
        token(exp=None),
        token(kid="unknown"),
        token(algorithm="HS256"),
        token().rsplit(".", 1)[0] + ".",
        "eyJhbGciOiJub25lIn0.e30.",
        "nonsense",
        "a" * 10_000,
    ],
)
async def test_a_forged_token_is_not(keys: Certs, forged: str) -> None:
    assert await keys.check(forged) is False


async def test_two_audiences_hold_while_one_is_replaced(keys: Certs) -> None:
    both = f"https://new.example {AUDIENCE}"
    assert await keys.verifier.is_genuine(token(), both, EMAIL) is True
    assert await keys.verifier.is_genuine(token(aud="https://new.example"), both, EMAIL) is True
    assert await keys.verifier.is_genuine(token(), "", EMAIL) is False


async def test_new_keys_are_fetched_when_named_but_not_for_everybody_who_names_one(keys: Certs) -> None:
    assert await keys.check(token()) is True
    for n in range(20):
        assert await keys.check(token(OTHER_KEY, kid=f"made up {n}")) is False
    assert keys.fetches == 1
    keys.serve(certs(k1=KEY, k2=OTHER_KEY))
    keys.now += 31
    assert await keys.check(token(OTHER_KEY, kid="k2")) is True
    assert await keys.check(token()) is True  # the old one still holds
    keys.serve(certs(k2=OTHER_KEY))
    keys.now += 3601
    assert await keys.check(token()) is False
    assert keys.fetches == 3


async def test_a_forged_token_keeps_no_genuine_one_waiting(keys: Certs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a key that is not there has the keys fetched, which may take its time."""
    monkeypatch.setattr("heliograph.channels.oidc._TIMEOUT_S", 600)
    assert await keys.check(token()) is True
    asked = asyncio.Event()

    def hang(_: Seen) -> Action:
        asked.set()
        return Hang()

    keys.google.api = hang
    keys.now += 31
    forged = asyncio.create_task(keys.check(token(OTHER_KEY, kid="made up")))
    async with asyncio.timeout(60):
        await asked.wait()
        assert await keys.check(token()) is True
    forged.cancel()
    await asyncio.gather(forged, return_exceptions=True)


@pytest.mark.parametrize("answer", [Answer(500), Raw(), json_answer({"keys": 5}), json_answer({})])
async def test_without_google_s_keys_nothing_can_be_said(keys: Certs, answer: Any) -> None:
    keys.serve(answer)
    assert isinstance(await keys.check(token()), Unreachable)


async def test_keys_that_are_known_outlive_a_fault(keys: Certs) -> None:
    assert await keys.check(token()) is True
    keys.serve(Answer(500))
    keys.now += 3601
    assert await keys.check(token()) is True
