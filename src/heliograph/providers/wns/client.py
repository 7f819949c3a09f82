"""One app at WNS: what is sent, and where to."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET  # it only writes here

import msgspec

from heliograph.domain.devices import PushTarget
from heliograph.outbound import NotSent, Outbound, Reply
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
from heliograph.providers import OneWay, offer_of
from heliograph.providers.wns.answers import evidence_of, outcome_of
from heliograph.providers.wns.tokens import NoToken, Tokens

MAX_LIFE_S = 30 * 24 * 3600  # WNS names no limit of its own; a channel ends after 30 days
MAX_URI = 2048
_SECOND = 1_000_000
_TRUSTED = 3600 * _SECOND  # since WNS took a push: a refused token is one channel's matter

HERE = r"(?:127(?:\.[0-9]{1,3}){3}|\[::1\]|localhost):[1-9][0-9]{0,4}"
_WAY = r"(?:[/?][!-~]*)?"
_MICROSOFTS = re.compile(rf"https://(?:[a-z0-9-]{{1,63}}\.){{1,10}}notify\.windows\.com(?::443)?{_WAY}", re.IGNORECASE)
_ON_THIS_MACHINE = re.compile(rf"https?://({HERE}){_WAY}")


def channel_fault(uri: str, hosts: frozenset[str] | None = None) -> str | None:
    """Why no access token may go to this address; None = it may.

    `hosts`: the `host:port` that an account names; without them any on this machine passes, since only the account
    can tell.
    """
    if len(uri) > MAX_URI:
        return "is too long"
    if _MICROSOFTS.fullmatch(uri):
        return None
    here = _ON_THIS_MACHINE.fullmatch(uri)
    if here is not None and (hosts is None or here[1] in hosts):
        return None
    return "leads to a host that is not WNS's"


class Wns(OneWay):
    """One app at WNS. Implements `ports.push.PushProvider`.

    `config` as the plug-in's `read_config` returns it.
    """

    def __init__(self, config: Mapping[str, Any], clock: Clock, *, timeout_s: float = 10.0) -> None:
        self._clock, self._timeout_s = clock, timeout_s
        self._hosts = frozenset(config.get("channelHosts") or ())
        self._secret = config["clientSecret"]
        self._http = Outbound("")
        self._tokens = Tokens(self._http, config, clock, timeout_s)
        self._taken_at: int | None = None  # when WNS last took a push

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """POST to the channel URI, a second time where the access token had ended."""
        fault = channel_fault(target.token, self._hosts)
        if fault:
            return Rejected(f"the address {fault}", token_gone=True)
        body = body_of(message)
        if body is None:
            return Rejected("cannot be written")
        ends, refused = self._clock.elapsed() + self._timeout_s * _SECOND, None
        while True:
            token = await self._tokens.token((ends - self._clock.elapsed()) / _SECOND, refused)
            if isinstance(token, NoToken):
                return _unsent(token)
            left_s = (ends - self._clock.elapsed()) / _SECOND
            headers = _headers(message) | {"Authorization": f"Bearer {token}"}
            reply = await self._http.exchange("POST", target.token, headers=headers, content=body, deadline_s=left_s)
            if not isinstance(reply, Reply):
                return RetryLater(reply.reason, uncertain=not isinstance(reply, NotSent))
            if reply.status != 401 or refused is not None:
                evidence = evidence_of(reply, self._secrets(target.token, token))
                return self._learn(outcome_of(reply, evidence, message.id, self._key_works()))
            refused = token

    async def probe(self) -> ProbeAnswer:
        """Ask for an access token."""
        token = await self._tokens.fresh(self._timeout_s)
        if not isinstance(token, NoToken):
            return Works("the token service takes the app's credentials")
        return Misconfigured(token.reason) if token.refused else Unavailable(token.reason, token.after_s)

    async def close(self) -> None:
        """Let go of connections."""
        await self._tokens.close()
        await self._http.close()

    def _learn(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Accepted):
            self._taken_at = self._clock.elapsed()
        return outcome

    def _key_works(self) -> bool:
        return self._taken_at is not None and self._clock.elapsed() - self._taken_at < _TRUSTED

    def _secrets(self, uri: str, token: str) -> list[str]:
        """What must not be kept of an answer; a channel URI also in parts."""
        return [uri, token, self._secret, *(part for part in re.split(r"[/?&=]", uri) if len(part) >= 16)]


def _unsent(token: NoToken) -> Outcome:
    if token.refused:
        return Misconfigured(token.reason)
    return RetryLater(token.reason, token.after_s, account_wide=True)


def _headers(message: PushMessage) -> dict[str, str]:
    headers = {"X-WNS-RequestForStatus": "true", "X-WNS-TTL": str(min(max(1, message.life_s), MAX_LIFE_S))}
    if message.kind == "notification":
        return headers | {"X-WNS-Type": "wns/toast", "Content-Type": "text/xml"}
    raw = {"X-WNS-Type": "wns/raw", "Content-Type": "application/octet-stream"}
    return headers | raw | {"X-WNS-Cache-Policy": "cache"}  # or a device that is offline never gets it


def body_of(message: PushMessage) -> bytes | None:
    """What goes over the wire; None where it cannot be written.

    A toast is shown by Windows itself. Its `launch`, which the app gets when it is tapped, holds the rest of the offer.
    """
    offer = offer_of(message)
    try:
        if message.kind != "notification":
            return msgspec.json.encode(offer)
        launch = msgspec.json.encode(msgspec.structs.replace(offer, title=None, body=None)).decode()
        toast = ET.Element("toast", launch=_xml_text(launch))
        binding = ET.SubElement(ET.SubElement(toast, "visual"), "binding", template="ToastGeneric")
        for text in (offer.title or "", offer.body or ""):
            ET.SubElement(binding, "text").text = _xml_text(text)
        written: bytes = ET.tostring(toast, encoding="utf-8", xml_declaration=True)
    except (TypeError, ValueError, RecursionError):
        return None
    return written


def _xml_text(text: str) -> str:
    """Without what no XML document can hold, escaped or not (XML 1.0, 2.2)."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
