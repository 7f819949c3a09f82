"""Receives pushes from an MQTT 5 broker, in a session that lasts while the device is away.

The broker wakes, and no more: what the agent says travels in check-ins. A message is acknowledged to the broker once it
is in the journal, so that one that a crash interrupts comes again, and is known by its id.
"""

import asyncio
import logging
import random
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph_agent.config import AgentConfig, Broker
from heliograph_agent.lines import UNREADABLE, system_authorities
from heliograph_agent.talk import LineError, Talk
from heliograph_protocol.messages import PushOffer

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_UNACKNOWLEDGED = 16  # messages that the broker hands over at a time
_FAULTS = (aiomqtt.MqttError, LineError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)
_log = logging.getLogger("heliograph_agent")
_wire_log = logging.getLogger("heliograph_agent.mqtt.wire")
_wire_log.setLevel(logging.CRITICAL)


async def keep_subscribed(config: AgentConfig, device_id: str, talk: Talk) -> None:
    """Receive until cancelled; a broker that is away, or refuses, is tried again. JournalError."""
    attempt, told = 0, ""
    while True:
        subscriber = _Subscriber(config, device_id)
        try:
            await subscriber.enter()
            codes = await subscriber.subscribe(subscriber.topic, qos=1)
            if any(getattr(code, "value", code) >= 0x80 for code in codes):
                raise LineError("it does not let this device read its topic")
            _log.info("%s: listens to the broker", config.app)
            attempt, told = 0, ""
            talk.wake()  # the broker has kept nothing from before it knew this subscriber
            while True:
                message = await subscriber.next()
                await _take(talk, message)
                subscriber.acknowledge(message)
        except _FAULTS as error:
            attempt += 1
            reason = str(error) if isinstance(error, LineError) else type(error).__name__
            if reason != told:
                _log.warning("%s: no line to the broker (%s); trying again", config.app, reason)
            told = reason
        finally:
            await subscriber.leave()
        ceiling = min(config.backoff_cap, config.backoff_base * 2 ** min(attempt, 30))
        await asyncio.sleep(random.uniform(0.0, ceiling))  # noqa: S311 - spreads load, no secret


async def _take(talk: Talk, message: aiomqtt.Message) -> None:
    try:
        offer = msgspec.json.decode(bytes(message.payload), type=PushOffer)
    except (*UNREADABLE, TypeError):
        _log.warning("a message of the broker is ignored: it is none of Heliograph's")
        return
    # The broker counts down what is left of the life; by the time we see it, the offer's own word may be old.
    left_s = getattr(message.properties, "MessageExpiryInterval", None)
    if left_s is not None:
        offer = msgspec.structs.replace(offer, expires_in_ms=min(offer.expires_in_ms, max(1, left_s) * 1000))
    await talk.receive(offer)


class _Subscriber(aiomqtt.Client):
    """One connection. aiomqtt acknowledges what it receives before anybody has seen it; paho, below it, can wait."""

    def __init__(self, config: AgentConfig, device_id: str) -> None:
        broker = config.broker or Broker(url="mqtt://127.0.0.1")
        parts = urlsplit(broker.url)
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = broker.session_s
        session.ReceiveMaximum = _UNACKNOWLEDGED
        super().__init__(
            parts.hostname or "",
            parts.port or _PORTS[parts.scheme],
            username=broker.username or device_id,
            password=broker.password,
            identifier=f"{device_id}-{config.app}",  # the session's name: the same every time
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=session,
            tls_context=(config.ssl_context or system_authorities()) if parts.scheme == "mqtts" else None,
            keepalive=broker.keepalive_s,
            timeout=config.answer_timeout,
            logger=_wire_log,
        )
        self.topic = f"{broker.topic_prefix}/{device_id}/{config.app}"
        self._gone = asyncio.Event()
        self._client.manual_ack_set(True)
        self._client.on_disconnect = self._lost

    async def enter(self) -> None:
        """Connect. Cancelled meanwhile, the connection that a thread still makes is closed when it is there."""
        entering = asyncio.ensure_future(self.__aenter__())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda _: self._discard())
            raise

    async def next(self) -> aiomqtt.Message:
        """The next message. MqttError when the connection is lost, also one that aiomqtt missed the end of."""
        receiving = asyncio.ensure_future(anext(self.messages))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({receiving, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                raise aiomqtt.MqttError("the connection was lost")
            message: aiomqtt.Message = receiving.result()
            return message
        finally:
            receiving.cancel()
            gone.cancel()

    def acknowledge(self, message: aiomqtt.Message) -> None:
        """Tell the broker to forget it."""
        self._client.ack(message.mid, message.qos)

    async def leave(self) -> None:
        """Say good-bye where somebody listens; the session stays."""
        if not self._gone.is_set() and self._client.is_connected():
            self._client.disconnect()
            await asyncio.sleep(0)
        self._discard()

    def _lost(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not self._connected.done():  # aiomqtt would wait for CONNACK until its timeout
            self._connected.set_exception(aiomqtt.MqttError("closed before CONNACK"))
        self._on_disconnect(client, userdata, flags, reason, properties)
        self._gone.set()

    def _discard(self) -> None:
        self._client._sock_close()  # noqa: SLF001 - paho closes it by itself only in the course of an exchange
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()  # else it is logged as one that nobody asked for
