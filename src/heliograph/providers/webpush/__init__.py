"""Web Push (RFC 8030, 8291, 8292): browsers, and UnifiedPush on Android without Google, which speaks the same.

The address of a device is a subscription, with an endpoint of the device's own choice; `heliograph.guard` says where a
request may go. What a push says is encrypted for the device; the service sees its size, life, urgency and topic.

The topic is the push's own id, so that a repeated attempt takes the place of its first. It is none that wakes share: a
wake that lives shorter, or is withdrawn, would take an older one away that somebody still needs.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

import msgspec
from jwt.utils import base64url_encode

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields
from heliograph.guard import Guard, origin_of, url_fault
from heliograph.outbound import Exchange, NotSent, Outbound, Reply
from heliograph.ports.clock import Clock
from heliograph.ports.push import (
    Accepted,
    CannotWithdraw,
    Outcome,
    ProbeAnswer,
    ProviderPlugin,
    PushMessage,
    Rejected,
    RetryLater,
    Route,
    Tools,
    Unavailable,
    WithdrawAnswer,
    Works,
)
from heliograph.providers import OneWay, encoded_size, offer_of, whole_number
from heliograph.providers.webpush.answers import Verdict, refusal, verdict_on, withdrawal
from heliograph.providers.webpush.services import Service, Services
from heliograph.providers.webpush.subscription import encrypt, read_subscription
from heliograph.providers.webpush.vapid import Vapid, private_key_of

MAX_TEXT_BYTES = 3993  # RFC 8291, 4: a record of 4,096 bytes, less its header, delimiter and tag
MAX_REFERENCE = 256  # a command's `pushId` is no longer; Mozilla's have about 250
MAX_LIFE_S = 28 * 24 * 3600
_SECOND = 1_000_000
_URGENCY = {"wake": "high"}  # RFC 8030, 5.3: also on a low battery
_TOPIC = r"[A-Za-z0-9_-]{1,32}"  # RFC 8030, 5.4
# RFC 8292, 2.1, as Apple's takes it: of the characters of a URI, and at no "localhost".
_SUBJECT = r"mailto:{0}+@(?!localhost$){0}+|https://{0}+".format(r"[!#-;=?A-~]")


class WebPush(OneWay):
    """One VAPID key, at whatever services the devices have subscribed with. Implements `ports.push.PushProvider`."""

    def __init__(self, vapid: Vapid, guard: Guard, clock: Clock, *, timeout_s: float = 10.0) -> None:
        self._vapid, self._clock, self._timeout_s = vapid, clock, timeout_s
        self._http = Outbound("", transport=guard.transport())
        self._services = Services()

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """POST to the endpoint."""
        subscription = read_subscription(target.token)
        if isinstance(subscription, str):
            return Rejected(f"the address {subscription}", token_gone=True, one_device=True)
        text, life_s = msgspec.json.encode(offer_of(message)), min(max(1, message.life_s), MAX_LIFE_S)
        if len(text) > MAX_TEXT_BYTES:
            return Rejected("the push is too large")
        headers = {
            "Authorization": self._vapid.authorization(subscription.endpoint),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(life_s),
            "Urgency": _URGENCY.get(message.kind, "normal"),
        }
        if re.fullmatch(_TOPIC, message.id):
            headers["Topic"] = message.id
        body = encrypt(text, subscription)
        service = self._services.of(subscription.endpoint)
        reply = await self._exchange(service, "POST", subscription.endpoint, headers, body)
        if isinstance(reply, NotSent) and reply.forbidden:
            refused = f"nothing may be sent to this endpoint: {reply.reason}"
            return service.spared(Rejected(refused, token_gone=True, one_device=True), target.device_id)
        if not isinstance(reply, Reply):
            return RetryLater(reply.reason, uncertain=not isinstance(reply, NotSent))
        verdict = verdict_on(reply)
        if verdict is Verdict.TAKEN:
            service.takes()
            return self._accepted(reply, subscription.endpoint, message.id, life_s)
        return service.spared(refusal(verdict, reply, service.takes_key), target.device_id)

    def _accepted(self, reply: Reply, endpoint: str, push_id: str, life_s: int) -> Accepted:
        said = reply.headers.get("ttl", "").strip()
        kept_s = min(int(said), life_s) if re.fullmatch(r"[0-9]{1,10}", said) else None
        expires_at = None if kept_s is None else self._clock.now() + kept_s * _SECOND
        message_url = _message_url(reply.headers.get("location", ""), endpoint)
        return Accepted(message_url or push_id, expires_at, {"status": reply.status})

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        """DELETE the message, where the service has named it. Not every service does it."""
        if origin_of(reference) is None:
            return CannotWithdraw("this push service gives a push no name to take it back by")
        headers = {"Authorization": self._vapid.authorization(reference)}
        reply = await self._exchange(self._services.of(reference), "DELETE", reference, headers)
        if isinstance(reply, NotSent) and reply.forbidden:
            return CannotWithdraw(reply.reason)
        if not isinstance(reply, Reply):
            return Unavailable(reply.reason)
        return withdrawal(reply)

    async def _exchange(
        self, service: Service, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> Exchange:
        return await self._services.ask(
            service,
            lambda: self._http.exchange(method, url, headers=headers, content=body, deadline_s=self._timeout_s),
        )

    async def probe(self) -> ProbeAnswer:
        """Nobody to ask: the devices name the services. Says which key their apps subscribe with."""
        return Works(f"the key is in order; apps subscribe with applicationServerKey {self._vapid.public_key}")

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()


def _message_url(location: str, endpoint: str) -> str | None:
    """The push's own URL; None where what the service names is elsewhere, or the subscription itself, or too long."""
    try:
        url = urljoin(endpoint, location.strip())
    except ValueError:
        return None
    path = endpoint.partition("?")[0]
    same = url_fault(url, MAX_REFERENCE) is None and origin_of(url) == origin_of(endpoint)
    return url if location and same and url.partition("?")[0].rstrip("/") != path.rstrip("/") else None


def _read_config(fields: Fields) -> dict[str, Any]:
    fields.only(("vapidPrivateKey", "subject", "allowedOrigins", "requestsPerMinute"))
    private_key = fields.text("vapidPrivateKey", required=True, max_length=2048)
    meaning = "must be a mailto: or https: address, at which push services reach you"
    subject = fields.text("subject", required=True, pattern=_SUBJECT, meaning=meaning)
    allowed = _origins(fields)
    per_minute = whole_number(fields, "requestsPerMinute", 0, 1_000_000)
    if private_key is not None:
        try:
            number = private_key_of(private_key).private_numbers().private_value
            private_key = base64url_encode(number.to_bytes(32)).decode()
        except ValueError:
            fields.wrong("vapidPrivateKey", "must be a private key of P-256: PEM, or its 32 bytes as base64url")
    fields.raise_if_wrong()
    return {
        "vapidPrivateKey": private_key,
        "subject": subject,
        "allowedOrigins": allowed,
        "requestsPerMinute": per_minute,
    }


def _origins(fields: Fields) -> list[str]:
    """The origins as a list, also where they come as text from a command line."""
    text = fields.raw.get("allowedOrigins")
    if isinstance(text, str):
        fields = Fields({"allowedOrigins": [url.strip() for url in text.split(",")]}, fields.path, fields.errors)
    said = fields.texts("allowedOrigins")
    if not all(url_fault(url) is None and re.fullmatch(r"https?://[^/?]+/?", url) for url in said):
        fields.wrong("allowedOrigins", "must be origins, such as http://push.example:8080")
    return said


def _build(config: Mapping[str, Any], tools: Tools) -> WebPush:
    vapid = Vapid(config["vapidPrivateKey"], config["subject"], tools.clock)
    guard = Guard(config["allowedOrigins"], organization_id=tools.organization_id)
    return WebPush(vapid, guard, tools.clock)


def _check(message: PushMessage) -> str | None:
    size = encoded_size(offer_of(message))
    if size is None:
        return "cannot be written as JSON"
    return f"is too large for Web Push: {size} bytes, at most {MAX_TEXT_BYTES}" if size > MAX_TEXT_BYTES else None


def _check_token(kind: str, token: str) -> str | None:
    del kind
    said = read_subscription(token)
    return f"holds an address that {said}" if isinstance(said, str) else None


PLUGIN = ProviderPlugin(
    kind="webpush",
    read_config=_read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    route=Route.RELAY,
    limits_all=True,
    tokens={"subscription": r"(?s)\{.{1,4000}\}"},
    check_token=_check_token,
    addresses={"allowedOrigins": ""},
    config_help={
        "vapidPrivateKey": "Private key of P-256 that names you to push services: PEM, or 32 bytes as base64url",
        "subject": "Where push services reach you: mailto: or https:",
        "allowedOrigins": "Push servers of your own that are at no public address or without https, such as http://push.example:8080",
        "requestsPerMinute": "Limit of your own (default 0 = none)",
    },
)
