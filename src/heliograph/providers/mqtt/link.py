"""The connection to a broker: one for each account, kept by a task of its own for as long as the account is used.

aiomqtt 2.5 hides what a push depends on: with which reason a message was acknowledged (a refused one looks like a
taken one), and what the broker grants at the start. paho, below it, tells both; `Connection` listens there. And
aiomqtt connects in a thread of the loop's pool, which is small: brokers that do not answer would hold up all others'.
"""

import asyncio
import logging
import random
import secrets
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import aiomqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

KEEPALIVE_S = 20
ANSWER_S = 5.0  # each for the TCP connection, each step of a TLS handshake, and CONNACK
MOST_IN_FLIGHT = 200  # fewer where the broker says so (Receive Maximum, 20 at mosquitto)
THREADS = 64  # in which connections are made
_LEFT = 8  # an organization gets an 8th of those that the others left, as of look-ups (heliograph.look_ups)
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.1, 30.0
NO_TRUST = "the broker's certificate is not trusted"
# What a broker, or whatever answers in its place, can cause while a connection is made or held.
_FAULTS = (aiomqtt.MqttError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)

# At DEBUG the library writes topics and client ids; at WARNING what goes on anyway.
_wire_log = logging.getLogger("heliograph.providers.mqtt.wire")
_wire_log.setLevel(logging.CRITICAL)


class Attempts:
    """The threads in which the accounts of a process connect, and whose turn it is. Belongs to one event loop.

    A thread counts until it is free: nobody can end what a broker that does not answer keeps waiting there.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mqtt")
        self._busy: Counter[str] = Counter()  # threads, by organization
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, organization_id: str, connect: Callable[[], None]) -> None:
        """Carry it out when the organization has a thread for it. Raises what it raises."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.setdefault(organization_id, deque()).append(turn)
        self._begin(organization_id)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._end(organization_id)
            raise
        under_way = self._threads.submit(connect)

        def ended(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(self._end, organization_id)

        under_way.add_done_callback(ended)
        try:
            await asyncio.wrap_future(under_way)
        finally:
            del under_way  # what it raises would hold it in a circle, and a socket with it

    def _begin(self, organization_id: str) -> None:
        """Give turns to those who wait for an organization's, as far as its share goes."""
        waiting = self._waiting[organization_id]
        while waiting and self._busy[organization_id] < ceil((THREADS - self._busy.total()) / _LEFT):
            turn = waiting.popleft()
            if not turn.done():
                self._busy[organization_id] += 1
                turn.set_result(None)
        if not waiting:
            del self._waiting[organization_id]

    def _end(self, organization_id: str) -> None:
        self._busy[organization_id] -= 1
        if not self._busy[organization_id]:
            del self._busy[organization_id]
        for other in sorted(self._waiting, key=self._busy.__getitem__):
            self._begin(other)


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and who we are to it. `client_id` is a beginning: each connection adds a random end."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    username: str | None
    password: str | None
    client_id: str


@dataclass(frozen=True, slots=True)
class Fault:
    """There is no connection. `code`: CONNACK's reason, where the broker gave one; `again_at`: by the loop's clock."""

    reason: str
    code: int | None = None
    again_at: float = 0.0


class Connection(aiomqtt.Client):
    """One connection. What was published on it and is not acknowledged when it ends may or may not have arrived."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=f"{broker.client_id}-{secrets.token_hex(4)}",
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=broker.tls,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S,
            max_inflight_messages=0,  # paho would queue without a word; `_slots` bounds them
            logger=_wire_log,
        )
        self.over = False
        self.max_packet_size: int | None = None
        self.acknowledges = True  # messages of QoS 1
        self.ended_for: ReasonCode | None = None  # what the broker says for ending it
        self._ending = asyncio.Event()
        self._slots = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._unanswered: dict[int, asyncio.Future[ReasonCode | None]] = {}
        self._client.connect_timeout = ANSWER_S
        if broker.tls is not None:
            self._client._ssl_wrap_socket = partial(_secured, broker.tls, broker.host)  # type: ignore[method-assign]  # noqa: SLF001
        self._client.on_connect = self._met
        self._client.on_publish = self._answered
        self._client.on_disconnect = self._lost

    async def meet(self, attempts: Attempts, organization_id: str) -> None:
        """Connect, as aiomqtt's `__aenter__` does; `__aexit__` must follow."""
        await self._lock.acquire()
        await attempts.run(organization_id, self._client_connect)
        await self._wait_for(self._connected, timeout=None)

    async def send(
        self, topic: str, payload: bytes, properties: Properties
    ) -> "asyncio.Future[ReasonCode | None] | None":
        """Publish with QoS 1 once there is room. The future holds the broker's reason, None when the connection ended
        without one. Answers None where nothing was sent."""
        await self._slots.acquire()
        if self.over:
            self._slots.release()
            return None
        info = self._client.publish(topic, payload, 1, False, properties)
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._slots.release()
            return None
        answer: asyncio.Future[ReasonCode | None] = asyncio.get_running_loop().create_future()
        self._unanswered[info.mid] = answer
        return answer

    async def hold(self) -> None:
        """Return once `end` was called, or the connection is lost."""
        # `over` alone is not enough: where reading fails, aiomqtt ends its messages and paho says nothing. Nor are the
        # messages: of a connection that was lost before the first look at them, aiomqtt never says that it is.
        tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._ending.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def end(self) -> None:
        """Let go of it."""
        self._ending.set()

    def give_up(self) -> None:
        """It is over: whoever waits is told."""
        self.over = True
        self._ending.set()
        answers, self._unanswered = self._unanswered, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_result(None)
        self._slots.release()  # who waits for room sees `over`, and passes it on

    def discard(self) -> None:
        """Close the socket, whatever state it was left in: after an answer that never came, or was none."""
        self.give_up()
        self._client._sock_close()  # noqa: SLF001 - paho closes it by itself only in the course of an exchange
        _retrieve(self._connected)
        _retrieve(self._disconnected)

    async def _listen(self) -> None:
        async for _ in self.messages:
            pass  # we subscribe to nothing

    def _met(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, granted: Properties | None) -> None:
        # Nobody waits for room yet: the connection is handed out after this.
        self._slots = asyncio.Semaphore(min(MOST_IN_FLIGHT, getattr(granted, "ReceiveMaximum", MOST_IN_FLIGHT)))
        self.max_packet_size = getattr(granted, "MaximumPacketSize", None)
        self.acknowledges = getattr(granted, "MaximumQoS", 2) > 0
        self._on_connect(client, userdata, flags, reason, granted)

    def _answered(self, _: Any, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        answer = self._unanswered.pop(mid, None)
        if answer is None:
            return
        self._slots.release()
        if not answer.done():
            answer.set_result(reason)

    def _lost(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if not self._connected.done():  # aiomqtt would wait for CONNACK until its timeout
            self._connected.set_exception(aiomqtt.MqttError("closed before CONNACK"))
        if flags.is_disconnect_packet_from_server and reason.value >= 0x80:
            self.ended_for = reason
        self._on_disconnect(client, userdata, flags, reason, properties)
        _retrieve(self._disconnected)
        self.give_up()


def _secured(tls: ssl.SSLContext, host: str, plain: socket.socket) -> ssl.SSLSocket:
    """The socket, after the handshake. paho leaves the one of a handshake that failed to the garbage collector."""
    secured = tls.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    try:
        secured.settimeout(ANSWER_S)
        secured.do_handshake()
    except BaseException:
        secured.close()
        raise
    return secured


def _retrieve(future: "asyncio.Future[None]") -> None:
    """Else its exception is logged as one that nobody asked for."""
    if future.done() and not future.cancelled():
        future.exception()


class Link:
    """Has a connection whenever the broker lets it; comes back after back-off with jitter."""

    def __init__(self, broker: Broker, attempts: Attempts, organization_id: str) -> None:
        self._broker, self._attempts, self._organization_id = broker, attempts, organization_id
        self._live: Connection | None = None
        self._fault: Fault | None = None
        self._changed = asyncio.Condition()
        self._hurry = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._users = 0
        self._closing = False

    async def __aenter__(self) -> "Link":
        """Somebody uses it: until he is done, `close` keeps the connection."""
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        self._end_if_idle()

    async def connection(self, *, afresh: bool = False) -> Connection | Fault:
        """The connection; waits for an attempt that is under way. `afresh`: make one now instead of the last fault."""
        if self._closing:
            return Fault("the client was closed")
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        async with self._changed:
            if afresh:
                self._fault = None
                self._hurry.set()
            await self._changed.wait_for(lambda: self._known() is not None)
        return self._known() or Fault("the connection to the broker was lost")

    async def close(self) -> None:
        """Let go of the connection, once what is under way has been answered."""
        self._closing = True
        self._hurry.set()
        self._end_if_idle()
        if self._keeper is not None and not self._users:
            await asyncio.wait({self._keeper}, timeout=1.0)  # one that is just connecting ends by itself

    def _known(self) -> Connection | Fault | None:
        """None while an attempt is under way, or due at once."""
        return self._live if self._live is not None and not self._live.over else self._fault

    def _end_if_idle(self) -> None:
        if self._closing and not self._users and self._live is not None:
            self._live.end()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing:
            began = loop.time()
            fault = await self._connect()
            failures = 0 if fault is None and loop.time() - began >= BACKOFF_CAP_S else failures + 1
            if fault is None and failures > 1:
                fault = Fault("the broker ends the connection as soon as it is made")
            ceiling = BACKOFF_BASE_S if fault is None else min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures, 10))
            pause = random.uniform(0.0 if fault is None else ceiling / 2, ceiling)  # noqa: S311 - spreads load
            if fault is not None:
                await self._tell(None, Fault(fault.reason, fault.code, loop.time() + pause))
            await self._pause(pause)
        await self._tell(None, Fault("the client was closed"))

    async def _connect(self) -> Fault | None:
        """Have one connection for as long as it lasts; says why there was none."""
        connection, worked = Connection(self._broker), False
        try:
            async with AsyncExitStack() as stack:
                await connection.meet(self._attempts, self._organization_id)
                stack.push_async_exit(connection)
                worked = True
                try:
                    await self._tell(connection, None)
                    self._end_if_idle()
                    await connection.hold()
                finally:
                    await self._tell(None, None)
                    connection.give_up()
        except _FAULTS as error:
            return None if worked else Fault(_reason(error), _code(error))
        finally:
            connection.discard()
        return None

    async def _tell(self, live: Connection | None, fault: Fault | None) -> None:
        async with self._changed:
            self._live, self._fault = live, fault
            self._changed.notify_all()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return
        if not self._closing:
            self._hurry.clear()


def _code(error: BaseException) -> int | None:
    """The broker's own reason for a refusal."""
    code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    return code.value if isinstance(code, ReasonCode) else code


def _reason(error: BaseException) -> str:
    """Why no connection was made, without the library's words, which may hold addresses."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return NO_TRUST
    if "timed out" in text:
        return "the broker does not answer in time"
    if "before CONNACK" in text:
        return "whoever answers there is no MQTT 5 broker"
    return "no connection to the broker"
