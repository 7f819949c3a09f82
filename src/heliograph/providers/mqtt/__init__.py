"""MQTT 5 (https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html): pushes through a broker of the operator's own.

A push is published with QoS 1 to `<topicPrefix>/<device id>/<app>`. The topic follows from our record: a device states
no address, so it cannot name another's. PUBACK says that the broker has the message, not that the device does; only
the agent's acknowledgement says that. The broker carries, and stores nothing that counts: what it loses is offered
again when the agent checks in.
"""

import asyncio
import ssl
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    CannotWithdraw,
    Misconfigured,
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
from heliograph.providers import OneWay, encoded_size, offer_of
from heliograph.providers.mqtt.link import NO_TRUST, Attempts, Broker, Connection, Fault, Link
from heliograph_protocol.messages import MAX_MESSAGE_BYTES

MAX_DATA_BYTES = MAX_MESSAGE_BYTES - 1024  # what agents read on any line, less the topic and the properties
MAX_LIFE_S = 365 * 24 * 3600
PORTS = {"mqtt": 1883, "mqtts": 8883}
PREFIX = "heliograph"


class Verdict(StrEnum):
    """What the broker's refusal means for a push, or for the account."""

    ACCOUNT = "the broker does not accept the account"
    SETTINGS = "the broker does not work with the account's settings"
    NO_ACKNOWLEDGEMENT = "the broker acknowledges no message: the greatest QoS that it allows must be 1 or 2"
    TOPIC = "the broker does not let the account publish to its devices' topics"
    TOO_LARGE = "is too large for the broker"
    REJECTED = "the broker will not take this message"
    QUOTA = "the account is over a limit of the broker"
    LATER = "the broker cannot take it now"


# Reason codes of CONNACK (3.2.2.2), and those of MQTT 3.1.1 that older brokers answer with. All others: LATER.
REFUSED: Mapping[int, Verdict] = {
    1: Verdict.SETTINGS,
    2: Verdict.SETTINGS,
    4: Verdict.ACCOUNT,
    5: Verdict.ACCOUNT,
    0x81: Verdict.SETTINGS,
    0x82: Verdict.SETTINGS,
    0x84: Verdict.SETTINGS,  # unsupported protocol version
    0x85: Verdict.SETTINGS,  # client id
    0x86: Verdict.ACCOUNT,  # user name or password
    0x87: Verdict.ACCOUNT,  # not authorized
    0x8A: Verdict.ACCOUNT,  # banned
    0x8C: Verdict.ACCOUNT,  # authentication method
    0x9C: Verdict.SETTINGS,  # use another server
    0x9D: Verdict.SETTINGS,  # server moved
}
# Reason codes of PUBACK (3.4.2.1) from 0x80 on. All others: LATER. With one that is not of that list, such as
# mosquitto's 0x95 for its obsolete message_size_limit, paho ends the connection.
NOT_TAKEN: Mapping[int, Verdict] = {
    0x87: Verdict.TOPIC,  # not authorized
    0x90: Verdict.TOPIC,  # topic name invalid
    0x97: Verdict.QUOTA,
    0x99: Verdict.REJECTED,  # payload format invalid
}


class Mqtt(OneWay):
    """One account of an organization at one broker. Implements `ports.push.PushProvider`."""

    def __init__(
        self,
        broker: Broker,
        attempts: Attempts,
        prefix: str = PREFIX,
        *,
        organization_id: str = "",
        timeout_s: float = 10.0,
    ) -> None:
        self._prefix, self._timeout_s = prefix, timeout_s
        self._link = Link(broker, attempts, organization_id)

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """Publish one push; the broker drops it when its life is over. Our own id names it."""
        payload = msgspec.json.encode(offer_of(message))
        life_s = min(max(1, message.life_s), MAX_LIFE_S)
        return await self._publish(f"{self._prefix}/{target.device_id}/{target.app}", payload, message.id, life_s)

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        """MQTT has no such packet. A retained message can be emptied, but those do not queue: only the last is kept."""
        del reference
        return CannotWithdraw("MQTT cannot take a message back from the queue of a device")

    async def probe(self) -> ProbeAnswer:
        """Publish to a topic beside the devices', which nobody reads: that tries the account and its right to write."""
        outcome = await self._publish(f"{self._prefix}/heliograph-probe/none", b"{}", "probe", 1, afresh=True)
        match outcome:
            case Accepted():
                return Works("the broker takes the account, and its messages")
            case Misconfigured():
                return outcome
            case RetryLater():
                return Unavailable(outcome.reason, outcome.after_s)
        return Misconfigured(outcome.reason, outcome.evidence)

    async def close(self) -> None:
        """Let go of the connection, once what is under way has been answered."""
        await self._link.close()

    async def _publish(self, topic: str, payload: bytes, id_: str, life_s: int, *, afresh: bool = False) -> Outcome:
        properties = _properties(life_s, id_)
        sent: Connection | None = None
        async with self._link:
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._link.connection(afresh=afresh)
                    if isinstance(connection, Fault):
                        return _unreachable(connection)
                    if not connection.acknowledges:
                        return Misconfigured(Verdict.NO_ACKNOWLEDGEMENT)
                    most, size = connection.max_packet_size, _packet_size(topic, payload, properties)
                    if most is not None and size > most:
                        return Rejected(f"{Verdict.TOO_LARGE}: {size} bytes, at most {most}")
                    answer = await connection.send(topic, payload, properties)
                    if answer is None:
                        return RetryLater("the connection to the broker was lost")
                    sent = connection
                    return _outcome(await answer, connection.ended_for, id_)
            except TimeoutError:
                if sent is None:
                    return RetryLater("the broker does not answer in time")
                # A message must not be repeated on its connection (4.4), and the broker may have lost this one.
                sent.end()
                return RetryLater("the broker did not acknowledge it in time", uncertain=True)


def _packet_size(topic: str, payload: bytes, properties: Properties) -> int:
    """The bytes of a PUBLISH with QoS 1 on the wire (MQTT 5, 3.3)."""
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    rest = 2 + len(topic.encode()) + 2 + len(packed) + len(payload)
    return 1 + max(1, -(-rest.bit_length() // 7)) + rest


def _properties(life_s: int, push_id: str) -> Properties:
    """What a message tells the broker and its reader about itself."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = life_s
    properties.CorrelationData = push_id.encode()
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1
    return properties


def _outcome(reason: ReasonCode | None, ended_for: ReasonCode | None, id_: str) -> Outcome:
    if reason is None and ended_for is not None:  # which of the messages under way it speaks of, nobody knows
        words = "the broker ended the connection before it acknowledged it"
        return RetryLater(words, uncertain=True, evidence=_words_of(ended_for))
    if reason is None:
        return RetryLater("the connection was lost before the broker acknowledged it", uncertain=True)
    evidence = _words_of(reason)
    if reason.value < 0x80:  # also 0x10, no matching subscribers: the broker took it, and the device will check in
        return Accepted(id_, evidence=evidence)
    match NOT_TAKEN.get(reason.value, Verdict.LATER):
        case Verdict.TOPIC:
            return Misconfigured(Verdict.TOPIC, evidence)
        case Verdict.REJECTED:
            return Rejected(Verdict.REJECTED, evidence=evidence)
        case verdict:
            return RetryLater(verdict, account_wide=verdict is Verdict.QUOTA, evidence=evidence)


def _words_of(reason: ReasonCode) -> dict[str, Any]:
    return {"reasonCode": reason.value, "reason": str(reason)}


def _unreachable(fault: Fault) -> Outcome:
    if fault.reason == NO_TRUST:  # as of the servers of other kinds: time does not mend it
        return Misconfigured(fault.reason)
    after_s = max(0.0, fault.again_at - asyncio.get_running_loop().time())
    if fault.code is None:
        return RetryLater(fault.reason, after_s, account_wide=True)
    evidence = {"reasonCode": fault.code}
    verdict = REFUSED.get(fault.code, Verdict.LATER)
    if verdict is Verdict.LATER:
        return RetryLater(verdict, after_s, account_wide=True, evidence=evidence)
    return Misconfigured(verdict, evidence)


# ---------------------------------------------------------------- settings


def _read_config(fields: Fields) -> dict[str, Any]:
    fields.only(("url", "username", "password", "clientId", "topicPrefix", "ca"))
    url = fields.text("url", required=True, max_length=2048)
    if url is not None and not _is_broker(url):
        fields.wrong("url", "must be mqtt://host:port or mqtts://host:port (with TLS), without user, path or query")
    word, meaning = r"[^\x00-\x1f\x7f]+", "must have no control characters"
    username = fields.text("username", pattern=word, meaning=meaning)
    password = fields.text("password", max_length=1024, pattern=word, meaning=meaning)
    if password is not None and username is None:
        fields.wrong("username", "is required with a password")
    client_id = fields.text("clientId", pattern=r"[0-9A-Za-z_.-]{1,100}", meaning="must be letters, digits, '_.-'")
    level = r"[^\x00-\x1f\x7f+#/$][^\x00-\x1f\x7f+#/]*"
    meaning = "must be levels of a topic with / between them, without '+' and '#', and not begin with '$'"
    prefix = fields.text("topicPrefix", pattern=rf"{level}(/{level})*", meaning=meaning)
    ca = fields.text("ca", max_length=256 * 1024)
    if ca is not None and not _is_certificate(ca):
        fields.wrong("ca", "must be certificates in PEM form")
    fields.raise_if_wrong()
    given = {"url": url, "username": username, "password": password, "clientId": client_id, "topicPrefix": prefix}
    return {name: value for name, value in {**given, "ca": ca}.items() if value is not None}


def _is_broker(url: str) -> bool:
    try:
        parts = urlsplit(url)
        whole = parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        return False
    extra = parts.query or parts.fragment or parts.path.strip("/") or "@" in parts.netloc
    return whole and parts.scheme in PORTS and bool(parts.hostname) and not extra


def _is_certificate(ca: str) -> bool:
    try:
        return bool(_plain(ca).strip()) and _tls(ca) is not None
    except (ssl.SSLError, ValueError):
        return False


def _plain(ca: str) -> str:
    """Without what only comments hold: Python takes ASCII alone."""
    return ca.encode("ascii", "ignore").decode()


@lru_cache(maxsize=64)
def _tls(ca: str | None) -> ssl.SSLContext:
    """One context for all accounts with the same authorities: it takes long to build."""
    return ssl.create_default_context(cadata=None if ca is None else _plain(ca))


def _build(config: Mapping[str, Any], tools: Tools) -> Mqtt:
    parts = urlsplit(config["url"])
    broker = Broker(
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        tls=_tls(config.get("ca")) if parts.scheme == "mqtts" else None,
        username=config.get("username"),
        password=config.get("password"),
        client_id=config.get("clientId") or "heliograph",
    )
    attempts, prefix = tools.shared(Attempts, Attempts), config.get("topicPrefix") or PREFIX
    return Mqtt(broker, attempts, prefix, organization_id=tools.organization_id)


def _check(message: PushMessage) -> str | None:
    size = encoded_size(offer_of(message))
    if size is None:
        return "cannot be written as JSON"
    return f"is too large for agents: {size} bytes, at most {MAX_DATA_BYTES}" if size > MAX_DATA_BYTES else None


PLUGIN = ProviderPlugin(
    kind="mqtt",
    read_config=_read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    route=Route.RELAY,
    tokens={"topic": ""},  # none: the topic follows from device and app
    addresses={"url": "", "ca": ""},  # whom it is trusted to be, as at the other services
    config_help={
        "url": "Where the broker is: mqtts://host (TLS, port 8883) or mqtt://host (port 1883)",
        "username": "User name at the broker",
        "password": "Password at the broker",
        "clientId": "Beginning of the client id (default heliograph); each connection adds a random end",
        "topicPrefix": f"Pushes go to <topicPrefix>/<device id>/<app> (default {PREFIX})",
        "ca": "Certificate authorities to trust instead of the system's (PEM)",
    },
)
