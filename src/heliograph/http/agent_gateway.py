"""The agent line over HTTP and WebSocket (messages and rules: heliograph_protocol). Plain ASGI: this path is hot."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from heliograph.app.access import Access, RateLimiter
from heliograph.app.agent_line import check_in, fitting, open_offers, register_agent
from heliograph.app.services import Services
from heliograph.domain.devices import APPS, Device
from heliograph.domain.errors import HeliographError, InvalidInput, NoToken, StoreUnavailable, Unauthenticated
from heliograph.http.answers import Answer, Request
from heliograph.http.edge import Receive, Scope, Send
from heliograph.http.metrics import AGENTS, CHECK_INS
from heliograph.http.operations import bearer_token
from heliograph_protocol.messages import MAX_ITEMS, MAX_MESSAGE_BYTES, CheckIn, Orders, Refusal, Register

MAX_WAIT_S = 60.0
CLOSE_REFUSED = 4401
CLOSE_BAD_MESSAGE = 1007
CLOSE_TRY_AGAIN = 1013

_CHECK_IN = msgspec.json.Decoder(CheckIn)
_REGISTER = msgspec.json.Decoder(Register)
_ENCODER = msgspec.json.Encoder()


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes | str) -> Any:
    try:
        message = decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidInput.of("", "not a message of the agent line") from None
    if isinstance(message, CheckIn):
        lists = (message.push_acks, message.reports, message.cancel_answers)
        if any(len(items) > MAX_ITEMS for items in lists) or message.claim < 0:
            raise InvalidInput.of("", f"more than {MAX_ITEMS} items in one list")
    return message


def _app_of(text: str | None) -> str:
    if text not in APPS:
        raise InvalidInput.of("app", f"must be one of {', '.join(APPS)}")
    return text


class AgentGateway:
    """Sessions of agents on this process."""

    def __init__(self, services: Services, access: Access, limiter: RateLimiter) -> None:
        self._s, self._access, self._limiter = services, access, limiter

    async def register(self, request: Request) -> Answer:
        """POST /agent/v1/register"""

        async def answer(device: Device) -> Any:
            return await register_agent(self._s, device, _decoded(_REGISTER, request.body))

        return await self._answer(request, answer)

    async def check_in(self, request: Request) -> Answer:
        """POST /agent/v1/check-in?app=…, long polling with `waitSeconds`."""

        async def answer(device: Device) -> Any:
            app = _app_of(dict(request.query()).get("app"))
            message: CheckIn = _decoded(_CHECK_IN, request.body)
            CHECK_INS.inc()
            with self._s.wakeups.subscribe(f"device:{device.id}") as waiter:
                orders = await check_in(self._s, device, app, message)
                offers = await open_offers(self._s, device, app)
                wait_s = 0.0 if self._s.lifecycle.ending else min(MAX_WAIT_S, message.wait_seconds)
                if wait_s > 0 and not _says_anything(orders) and not _says_anything(offers):
                    await waiter.wait(wait_s)
                    if message.claim > 0:
                        orders = await check_in(self._s, device, app, CheckIn(seq=message.seq, claim=message.claim))
                    offers = await open_offers(self._s, device, app)
            return _joined(orders, offers)

        return await self._answer(request, answer)

    async def _answer(self, request: Request, answer: Callable[[Device], Awaitable[Any]]) -> Answer:
        try:
            device = await self._access.device(bearer_token(request.header(b"authorization")))
            wait_s = self._limiter.wait_s(device.id, self._s.clock.now())
            if wait_s > 0:
                refusal = Refusal(code="too_many", message="Too many requests")
                return Answer(_ENCODER.encode(refusal), 429, headers={"Retry-After": str(int(wait_s) + 1)})
            return _json(200, await answer(device))
        except HeliographError as error:
            return _json(_status(error), Refusal(code=error.code, message=str(error)))

    async def line(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WebSocket /agent/v1/line?app=…"""
        await receive()  # websocket.connect
        try:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            device = await self._access.device(bearer_token(headers.get(b"authorization")))
            app = _app_of(parse_qs(scope["query_string"].decode("latin-1")).get("app", [""])[0])
        except HeliographError as error:
            await _refuse(scope, send, error)
            return
        await send({"type": "websocket.accept"})
        AGENTS.inc()
        try:
            await _Session(self._s, device, app, receive, send, self._limiter).run()
        finally:
            AGENTS.dec()


class _Session:
    """One connected agent: reads check-ins, and pushes orders when something waits."""

    def __init__(
        self, services: Services, device: Device, app: str, receive: Receive, send: Send, limiter: RateLimiter
    ) -> None:
        self._s, self._device, self._app, self._limiter = services, device, app, limiter
        self._receive, self._send = receive, send
        self._offered: set[str] = set()

    async def run(self) -> None:
        waker = asyncio.create_task(self._wake())
        try:
            await self._read()
        except InvalidInput as error:
            await self._close(CLOSE_BAD_MESSAGE, error)
        except HeliographError as error:
            await self._close(CLOSE_TRY_AGAIN, error)
        finally:
            waker.cancel()

    async def _read(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return
            raw = event.get("text") or event.get("bytes") or b""
            if len(raw) > MAX_MESSAGE_BYTES:
                raise InvalidInput.of("", "message too large")
            message: CheckIn = _decoded(_CHECK_IN, raw)
            CHECK_INS.inc()
            while (wait_s := self._limiter.wait_s(self._device.id, self._s.clock.now())) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait_s)  # nothing more is read meanwhile, so the agent waits too
            self._offered.difference_update(ack.id for ack in message.push_acks)
            await self._say(await check_in(self._s, self._device, self._app, message))

    async def _wake(self) -> None:
        """Tell the agent what waits for it: at the start, and whenever something new does."""
        with self._s.wakeups.subscribe(f"device:{self._device.id}") as waiter:
            while True:
                try:
                    offers = await open_offers(self._s, self._device, self._app)
                    new = [push for push in offers.pushes if push.id not in self._offered]
                    self._offered.update(push.id for push in new)
                    orders = msgspec.structs.replace(offers, pushes=new)
                    if _says_anything(orders):
                        await self._say(orders)
                except StoreUnavailable:
                    await asyncio.sleep(1)
                    continue
                # Also looked at now and then: a wake-up from another process may be lost.
                await waiter.wait(30)

    async def _say(self, orders: Orders) -> None:
        await self._send({"type": "websocket.send", "text": _ENCODER.encode(orders).decode()})

    async def _close(self, code: int, error: HeliographError) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": error.code})


def _says_anything(orders: Orders) -> bool:
    return bool(orders.pushes or orders.commands or orders.cancels or orders.waiting)


def _joined(orders: Orders, offers: Orders) -> Orders:
    """The answer to a check-in over HTTP: what it claimed, and what waits besides and still fits."""
    taken = len(_ENCODER.encode(orders)) if orders.commands else 0
    return msgspec.structs.replace(
        orders, pushes=fitting(offers.pushes, taken), cancels=offers.cancels, waiting=orders.waiting or offers.waiting
    )


def _status(error: HeliographError) -> int:
    return {Unauthenticated: 401, NoToken: 401, InvalidInput: 400}.get(type(error), 503)


def _json(status: int, body: Any) -> Answer:
    return Answer(_ENCODER.encode(body), status)


async def _refuse(scope: Scope, send: Send, error: HeliographError) -> None:
    """Refuse the handshake with an HTTP answer where the server can, so that the agent learns why."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": CLOSE_REFUSED, "reason": error.code})
        return
    body = _ENCODER.encode(Refusal(code=error.code, message=str(error)))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": _status(error), "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
