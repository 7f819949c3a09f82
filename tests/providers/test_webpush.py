"""Web Push: its contract, settings and addresses; what goes over the wire is in `webpush/`."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode, base64url_encode

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.ports.push import PushMessage
from heliograph.providers import offer_of, webpush
from heliograph.providers.webpush import MAX_TEXT_BYTES, WebPush
from heliograph.providers.webpush.subscription import Subscription, read_subscription
from heliograph.system import SystemClock
from tests.providers.samples import MESSAGES, Contract, tools

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
    {**BASE, "subject": "mailto:<ops@example.com>"},  # what Apple's refuses with BadJwtToken, as the next
    {**BASE, "subject": "mailto:ops@localhost"},
    {**BASE, "subject": "mailto:öps@example.com"},
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
