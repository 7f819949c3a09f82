"""Pushes as APNs takes them.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
Why a push looks as it does: docs/adr/0041.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

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
from heliograph.ports.transport import Outcome as Exchange
from heliograph.ports.transport import Transport
from heliograph.providers import OneWay, offer_of
from heliograph.providers.apns.answers import TOO_OLD, Verdict, outcome_of, with_word, word_of
from heliograph.providers.transport import ProviderTokens, SigningKey

MAX_LIFE_S = 30 * 24 * 3600
TIMEOUT_S = 10.0
NOBODY = "0" * 64  # no device's token
MDM_TOPICS = "com.apple.mgmt."
TOPIC = r"[A-Za-z0-9.\-]{1,255}"
TOKEN = r"([0-9a-fA-F]{2}){32,100}"  # noqa: S105 - a pattern


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
        headers = {"apns-topic": topic, "apns-id": id_of("probe")} | _headers_of(form)
        body = {"mdm": "probe"} if form == "mdm" else {"aps": {"content-available": 1}}
        outcome = outcome_of(await self._post(_Push(NOBODY, headers, _encoded(body))), "")
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
        collapse = {"wake": "wake", "notification": message.id}.get(message.kind)
        return _Push(target.token, self._headers(message, topic, form, collapse), _encoded(payload_of(message)))

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
        return _Push(address.token, headers, _encoded({"mdm": address.push_magic}))

    def _headers(self, message: PushMessage, topic: str, form: str, collapse: str | None) -> dict[str, str]:
        life_s = min(max(1, message.life_s), MAX_LIFE_S)
        return {
            "apns-id": id_of(message.id),
            "apns-topic": topic,
            "apns-expiration": str(self._clock.now() // 1_000_000 + life_s),
            **_headers_of(form),
            **({} if collapse is None else {"apns-collapse-id": collapse[:64]}),
        }

    async def _post(self, push: _Push) -> Exchange:
        """Send; once more with a fresh provider token where this one is called expired."""
        path, key = f"/3/device/{quote(push.token, safe='')}", self._account.key
        if key is None:
            return await self._transport.post(path, push.headers, push.body, self._timeout_s)
        token = self._tokens.token(key)
        answer = await self._transport.post(path, _signed(push, token), push.body, self._timeout_s)
        if word_of(answer) == TOO_OLD and self._tokens.expired(key, token):
            answer = await self._transport.post(
                path, _signed(push, self._tokens.token(key)), push.body, self._timeout_s
            )
        return answer


def id_of(push_id: str) -> str:
    """The `apns-id` of a push: a UUID, the same for all attempts."""
    return str(uuid5(NAMESPACE_URL, f"heliograph:push:{push_id}"))


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


def _headers_of(form: str) -> dict[str, str]:
    # APNs refuses another priority than 5 (or 1) for what shows nothing.
    return {"apns-push-type": form, "apns-priority": "5" if form == "background" else "10"}


def _signed(push: _Push, token: str) -> dict[str, str]:
    return push.headers | {"authorization": f"bearer {token}"}


def payload_of(message: PushMessage) -> dict[str, Any]:
    offer = offer_of(message)
    if message.kind != "notification":
        return {"aps": {"content-available": 1}, "heliograph": offer}
    # The system shows these two; repeating them in the offer would halve their room. The agent is woken as well, for
    # its acknowledgement is the only proof of delivery.
    alert = {name: text for name, text in (("title", message.title), ("body", message.body)) if text}
    shown = {"alert": alert, "sound": "default", "content-available": 1}
    return {"aps": shown, "heliograph": msgspec.structs.replace(offer, title=None, body=None)}


def _encoded(payload: dict[str, Any]) -> bytes:
    return msgspec.json.encode(payload)
