"""Pushes as APNs takes them.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
Why a push looks as it does: docs/adr/0041.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL

import msgspec

from heliograph.domain.devices import PushTarget
from heliograph.domain.record import record
from heliograph.ports.clock import Clock
from heliograph.ports.push import (
    Accepted,
    Misconfigured,
    Outcome,
    ProbeAnswer,
    PushMessage,
    Rejected,
    RetryLater,
    Unavailable,
    Works,
)
from heliograph.ports.transport import Answered, Transport
from heliograph.ports.transport import Outcome as Exchange
from heliograph.providers import OneWay, offer_of
from heliograph.providers.apns.answers import TOO_OLD, Verdict, outcome_of, verdict_on, with_word, word_of
from heliograph.providers.transport import ProviderTokens, SigningKey

MAX_LIFE_S = 30 * 24 * 3600
TIMEOUT_S = 10.0
NOBODY = "0" * 64  # no device's token
MDM_TOPICS = "com.apple.mgmt."
TOPIC = r"[A-Za-z0-9.\-]{1,255}"
TOKEN = r"([0-9a-fA-F]{2}){32,100}"  # noqa: S105 - a pattern

# APNs refuses another priority than 5 (or 1) for what shows nothing.
FORMS: Mapping[str, Mapping[str, str]] = {
    form: {"apns-push-type": form, "apns-priority": priority}
    for form, priority in (("alert", "10"), ("background", "5"), ("mdm", "10"))
}
_NAMES = sha1(NAMESPACE_URL.bytes + b"heliograph:push:", usedforsecurity=False)
_ENCODE = msgspec.json.Encoder().encode


class MdmAddress(msgspec.Struct, frozen=True, rename="camel"):
    """Where Apple's management client is woken, from its TokenUpdate; the token in hexadecimal digits."""

    token: str
    push_magic: str
    topic: str


@dataclass(frozen=True, slots=True)
class Account:
    """Who sends. `key` None = by certificate. `topics` by app, where they are not `topic`."""

    key: SigningKey | None
    topic: str | None
    topics: Mapping[str, str] = field(default_factory=dict)

    def topic_of(self, app: str) -> str | None:
        """The bundle id of an app; None where none is set."""
        return self.topics.get(app, self.topic)


@record
class _Push:
    token: str
    headers: dict[str, str]
    body: bytes


class Apns(OneWay):
    """One key or certificate at APNs. Implements `ports.push.PushProvider`."""

    def __init__(
        self,
        account: Account,
        transport: Transport,
        tokens: ProviderTokens,
        clock: Clock,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._account, self._transport, self._tokens, self._clock = account, transport, tokens, clock
        self._timeout_s = timeout_s

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """POST /3/device/TOKEN."""
        push = self._push(message, target)
        return push if isinstance(push, Rejected) else outcome_of(await self._post(push), push.headers["apns-id"])

    async def probe(self) -> ProbeAnswer:
        """Push to a token that cannot exist: who is let in hears that it does not."""
        topic = self._account.topic or next(iter(self._account.topics.values()))
        form = _form(topic, "wake")
        headers = {"apns-topic": topic, "apns-id": id_of("probe"), **FORMS[form]}
        body = {"mdm": "probe"} if form == "mdm" else {"aps": {"content-available": 1}}
        outcome = outcome_of(await self._post(_Push(NOBODY, headers, _ENCODE(body))), "")
        match outcome:
            case Accepted() | Rejected(reason=Verdict.GONE | Verdict.NOT_OURS):
                return Works(f"APNs takes the account for {topic}")
            case RetryLater():
                return Unavailable(outcome.reason, outcome.after_s)
            case Rejected():
                return Unavailable(with_word(outcome.reason, outcome.evidence))
        return Misconfigured(outcome.reason)

    async def close(self) -> None:
        """Let go of the connection; another account with the same credentials makes its own."""
        await self._transport.close()

    def _push(self, message: PushMessage, target: PushTarget) -> _Push | Rejected:
        if target.kind == "mdm":
            return self._mdm_push(message, target.token)
        topic = self._account.topic_of(target.app)
        if topic is None:
            return Rejected("the account has no topic for this app")
        if topic.startswith(MDM_TOPICS):
            return Rejected("the account is for the management client (MDM) alone, and this is an app's address")
        form = _form(topic, message.kind)
        collapse = "wake" if message.kind == "wake" else message.id if message.kind == "notification" else None
        return _Push(target.token, self._headers(message, topic, form, collapse), _ENCODE(payload_of(message)))

    def _mdm_push(self, message: PushMessage, token: str) -> _Push | Rejected:
        address = read_mdm(token)
        if address is None:
            return Rejected("this is no address of the management client (MDM)", token_gone=True)
        if message.kind != "wake":
            return Rejected("the management client (MDM) can be woken, and shows and takes nothing else")
        if self._account.key is not None:
            return Rejected(
                "the management client (MDM) is woken with the MDM push certificate: that is another account"
            )
        if address.topic != self._account.topic:
            return Rejected("the device was enrolled with another MDM push certificate", token_gone=True)
        headers = self._headers(message, address.topic, "mdm", "mdm")
        return _Push(address.token, headers, _ENCODE({"mdm": address.push_magic}))

    def _headers(self, message: PushMessage, topic: str, form: str, collapse: str | None) -> dict[str, str]:
        life_s = min(max(1, message.life_s), MAX_LIFE_S)
        headers = {
            "apns-id": id_of(message.id),
            "apns-topic": topic,
            "apns-expiration": str(self._clock.now() // 1_000_000 + life_s),
            **FORMS[form],
        }
        if collapse is not None:
            headers["apns-collapse-id"] = collapse[:64]
        return headers

    async def _post(self, push: _Push) -> Exchange:
        """Send; once more with a fresh provider token where this one is called expired, and over a new connection where
        the account is refused: what it may send to is decided when a connection is made.
        """
        headers, body, key = push.headers, push.body, self._account.key
        # Hexadecimal digits, but for what an account of long ago may have left.
        path = "/3/device/" + (push.token if push.token.isalnum() and push.token.isascii() else quote(push.token, ""))
        if key is None:
            return await self._transport.post(path, headers, body, self._timeout_s)
        token = self._tokens.token(key)
        headers["authorization"] = "bearer " + token
        began = self._clock.elapsed()
        answer = await self._transport.post(path, headers, body, self._timeout_s)
        if isinstance(answer, Answered) and not answer.body:  # no word in it
            return answer
        if self._may_fare_better(answer, key, token, began):
            headers = headers | {"authorization": "bearer " + self._tokens.token(key)}
            answer = await self._transport.post(path, headers, body, self._timeout_s)
        return answer

    def _may_fare_better(self, answer: Exchange, key: SigningKey, token: str, began: int) -> bool:
        """Whether what APNs has refused is worth another try at once, with another token or over another connection."""
        word = word_of(answer)
        if word == TOO_OLD:
            return self._tokens.expired(key, token)
        if not isinstance(answer, Answered) or verdict_on(answer.status, word) is not Verdict.ACCOUNT:
            return False
        return self._transport.renew(began)


def id_of(push_id: str) -> str:
    """The `apns-id` of a push: a UUID, the same for all attempts."""
    # As `uuid5(NAMESPACE_URL, "heliograph:push:" + push_id)`, at a fraction of its time.
    named = _NAMES.copy()
    named.update(push_id.encode())
    digits = named.hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def read_mdm(token: str) -> MdmAddress | None:
    """An address of the kind `mdm`; None where it is none."""
    try:
        address = msgspec.json.decode(token, type=MdmAddress)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    sound = re.fullmatch(TOKEN, address.token) and re.fullmatch(r"[\x20-\x7e]{1,256}", address.push_magic)
    return address if sound and re.fullmatch(rf"{re.escape(MDM_TOPICS)}{TOPIC}", address.topic) else None


def _form(topic: str, kind: str) -> str:
    """The push type."""
    if topic.startswith(MDM_TOPICS):
        return "mdm"
    return "alert" if kind == "notification" else "background"


def payload_of(message: PushMessage) -> dict[str, Any]:
    if message.kind != "notification":
        return {"aps": {"content-available": 1}, "heliograph": offer_of(message)}
    # The system shows these two; repeating them in the offer would halve their room. The agent is woken as well, for
    # its acknowledgement is the only proof of delivery.
    alert = {}
    if message.title:
        alert["title"] = message.title
    if message.body:
        alert["body"] = message.body
    shown = {"alert": alert, "sound": "default", "content-available": 1}
    return {"aps": shown, "heliograph": offer_of(message, shown=True)}
