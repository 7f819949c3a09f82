"""One agent's WebSocket: check-ins are answered, and what waits for the agent is told unasked."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from heliograph.app.access import AGENT_TOPIC, Access
from heliograph.app.agent_line import check_in, new_offers
from heliograph.app.services import Services
from heliograph.domain.devices import Device
from heliograph.domain.errors import HeliographError, InvalidInput, StoreUnavailable, Unauthenticated
from heliograph.http.edge import Receive, Send
from heliograph.http.metrics import CHECK_INS
from heliograph_protocol.messages import CLOSE_REFUSED, MAX_ITEMS, MAX_MESSAGE_BYTES, CheckIn, Orders

CLOSE_BAD_MESSAGE = 1007
CLOSE_FAULT = 1011
CLOSE_TRY_AGAIN = 1013
_LOOK_AGAIN_S = 30.0  # a wake-up from another process may be lost
_STORE_PAUSE_S = 1.0

_CHECK_IN = msgspec.json.Decoder(CheckIn)
_ENCODER = msgspec.json.Encoder()


def decoded(decoder: msgspec.json.Decoder[Any], raw: bytes | str) -> Any:
    """A message of the agent line; raises InvalidInput."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidInput.of("", "not a message of the agent line") from None


def decoded_check_in(raw: bytes | str) -> CheckIn:
    """A check-in whose lists have their bounds; raises InvalidInput."""
    message: CheckIn = decoded(_CHECK_IN, raw)
    lists = (message.push_acks, message.reports, message.cancel_answers)
    if any(len(items) > MAX_ITEMS for items in lists) or message.claim < 0:
        raise InvalidInput.of("", f"more than {MAX_ITEMS} items in one list")
    return message


def says_anything(orders: Orders) -> bool:
    """Whether there is a reason to send it."""
    return bool(orders.pushes or orders.commands or orders.cancels or orders.waiting)


class AgentSession:
    """One connected agent. Its reader and its waker live and end together.

    The secret was checked at the handshake; it is checked again (by its hash) before every word in either direction.
    """

    def __init__(
        self,
        services: Services,
        access: Access,
        secret_hash: bytes,
        device: Device,
        app: str,
        receive: Receive,
        send: Send,
        journal: str = "",
    ) -> None:
        self._s, self._access, self._secret_hash = services, access, secret_hash
        self._device, self._app, self._journal = device, app, journal
        self._receive, self._send = receive, send
        self._offered: dict[str, int] = {}  # the pushes, and when each is over
        self._hold: asyncio.Timeout | None = None
        self._end: tuple[int, str] | None = None
        self._waker_fault: Exception | None = None

    async def run(self) -> Exception | None:
        """Talk until the agent leaves or the session is ended; answers a fault of ours, for the log."""
        waker = asyncio.create_task(self._wake())
        fault: Exception | None = None
        try:
            async with asyncio.timeout(None) as self._hold:
                waker.add_done_callback(self._waker_ended)
                if self._end is None:
                    await self._read()
        except TimeoutError as error:  # the hold was let go
            fault = self._waker_fault or error
        except Exception as error:  # noqa: BLE001 (whatever it is, the agent is told that the line is over)
            fault = error
        else:
            if self._end is None:
                return None
        finally:
            self._hold = None
            waker.cancel()
        return await self._close(fault)

    def end(self, code: int, reason: str) -> None:
        """End it from outside, with a close code."""
        self._end = self._end or (code, reason)
        self._interrupt()

    def _waker_ended(self, waker: "asyncio.Task[None]") -> None:
        error = None if waker.cancelled() else waker.exception()
        self._waker_fault = error if isinstance(error, Exception) else None
        self._interrupt()

    def _interrupt(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return
            raw = event.get("text") or event.get("bytes") or b""
            if len(raw) > MAX_MESSAGE_BYTES:
                raise InvalidInput.of("", "message too large")
            message = decoded_check_in(raw)
            CHECK_INS.inc()
            await self._access.device_of(self._secret_hash)
            await self._say(await check_in(self._s, self._device, self._app, message, self._journal))
            for ack in message.push_acks:
                self._offered.pop(ack.id, None)

    async def _wake(self) -> None:
        """Tell the agent what waits for it: at the start, and whenever something new does."""
        wakeups, device_id = self._s.wakeups, self._device.id
        with (
            wakeups.subscribe(f"device:{device_id}") as waiter,
            wakeups.watch(AGENT_TOPIC.format(device_id), self._access_changed),
        ):
            while True:
                try:
                    await self._tell()
                except StoreUnavailable:
                    await asyncio.sleep(_STORE_PAUSE_S)
                else:
                    await waiter.wait(_LOOK_AGAIN_S)

    async def _tell(self) -> None:
        await self._access.device_of(self._secret_hash)
        now = self._s.clock.now()
        self._offered = {push_id: over_at for push_id, over_at in self._offered.items() if now < over_at}
        async for orders in new_offers(self._s, self._device, self._app, self._offered.keys(), self._journal):
            now = self._s.clock.now()  # and one more millisecond, for what is left was rounded down
            self._offered |= {push.id: now + (push.expires_in_ms + 1) * 1000 for push in orders.pushes}
            await self._say(orders)

    def _access_changed(self) -> None:
        """Whoever holds the secret of today comes back with it."""
        self.end(CLOSE_TRY_AGAIN, "access_changed")

    async def _say(self, orders: Orders) -> None:
        await self._send({"type": "websocket.send", "text": _ENCODER.encode(orders).decode()})

    async def _close(self, fault: Exception | None) -> Exception | None:
        if isinstance(fault, OSError) and self._end is None and not isinstance(fault, TimeoutError):
            return None  # the agent is gone
        code, reason = self._end or _code_of(fault)
        with suppress(OSError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        return fault if code == CLOSE_FAULT else None


def _code_of(fault: Exception | None) -> tuple[int, str]:
    if isinstance(fault, InvalidInput):
        return CLOSE_BAD_MESSAGE, fault.code
    if isinstance(fault, Unauthenticated):
        return CLOSE_REFUSED, fault.code
    if isinstance(fault, HeliographError):
        return CLOSE_TRY_AGAIN, fault.code
    return CLOSE_FAULT, "fault"
