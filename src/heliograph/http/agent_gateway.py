"""The agent line over HTTP and WebSocket (messages and rules: heliograph_protocol). Plain ASGI: this path is hot."""

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from heliograph.app.access import Access, RateLimiter, hash_secret
from heliograph.app.agent_line import check_in, fitting, open_offers, register_agent
from heliograph.app.services import Services
from heliograph.domain.devices import APPS, Device
from heliograph.domain.errors import HeliographError, InvalidInput, NoToken, Unauthenticated
from heliograph.http.agent_session import CLOSE_TRY_AGAIN, AgentSession, decoded, decoded_check_in, says_anything
from heliograph.http.answers import Answer, Request
from heliograph.http.edge import Message, Receive, Scope, Send
from heliograph.http.metrics import AGENTS, CHECK_INS
from heliograph.http.operations import bearer_token
from heliograph.ports.clock import Waiter
from heliograph_protocol.messages import CLOSE_REFUSED, CLOSE_REPLACED, CheckIn, Orders, Refusal, Register

MAX_WAIT_S = 60.0
MAX_WAITING = 8  # check-ins of one app on one device; an agent has one, and one more for each connection that it lost

_REGISTER = msgspec.json.Decoder(Register)
_ENCODER = msgspec.json.Encoder()


def _app_of(text: str | None) -> str:
    if text not in APPS:
        raise InvalidInput.of("app", f"must be one of {', '.join(APPS)}")
    return text


def _journal_of(text: str | None) -> str:
    if text and re.fullmatch("[A-Za-z0-9_-]{1,64}", text) is None:
        raise InvalidInput.of("journal", "must be 1 to 64 letters, digits, _ or -")
    return text or ""


class AgentGateway:
    """Sessions of agents on this process."""

    def __init__(self, services: Services, access: Access, limiter: RateLimiter, log: Any) -> None:
        self._s, self._access, self._limiter, self._log = services, access, limiter, log
        self._sessions: dict[tuple[str, str], AgentSession] = {}
        self._polls: defaultdict[tuple[str, str], deque[asyncio.Timeout]] = defaultdict(deque)  # those that wait

    async def register(self, request: Request) -> Answer:
        """POST /agent/v1/register"""

        async def answer(device: Device) -> Any:
            return await register_agent(self._s, device, decoded(_REGISTER, request.body))

        return await self._answer(request, answer)

    async def check_in(self, request: Request) -> Answer:
        """POST /agent/v1/check-in?app=…&journal=…, long polling with `waitSeconds`."""

        async def answer(device: Device) -> Any:
            query = dict(request.query())
            app, journal = _app_of(query.get("app")), _journal_of(query.get("journal"))
            message: CheckIn = decoded_check_in(request.body)
            CHECK_INS.inc()
            with self._s.wakeups.subscribe(f"device:{device.id}") as waiter:
                orders = await check_in(self._s, device, app, message, journal)
                offers = await open_offers(self._s, device, app, journal)
                wait_s = 0.0 if self._s.lifecycle.ending else min(MAX_WAIT_S, message.wait_seconds)
                if wait_s <= 0 or says_anything(orders) or says_anything(offers):
                    return _joined(orders, offers)
                if await self._has_waited((device.id, app), waiter, wait_s):
                    await self._device(request)  # the secret may have ended meanwhile
                    if message.claim > 0:
                        again = CheckIn(seq=message.seq, claim=message.claim)
                        orders = await check_in(self._s, device, app, again, journal)
                    offers = await open_offers(self._s, device, app, journal)
            return _joined(orders, offers)

        return await self._answer(request, answer)

    async def _has_waited(self, place: tuple[str, str], waiter: Waiter, wait_s: float) -> bool:
        """Wait for something to come. False at once when too many newer check-ins wait: nobody may hear this one."""
        polls, turn = self._polls[place], asyncio.timeout(None)
        try:
            async with turn:
                polls.append(turn)
                if len(polls) > MAX_WAITING:
                    polls.popleft().reschedule(asyncio.get_running_loop().time())
                await waiter.wait(wait_s)
        except TimeoutError:
            return False
        finally:
            if turn in polls:  # no newer one has put an end to it
                polls.remove(turn)
                if not polls:
                    del self._polls[place]
        return True

    async def _answer(self, request: Request, answer: Callable[[Device], Awaitable[Any]]) -> Answer:
        try:
            device = await self._device(request)
            wait_s = self._limiter.wait_s(device.id, self._s.clock)
            if wait_s > 0:
                return _too_many(wait_s)
            return _json(200, await answer(device))
        except HeliographError as error:
            return _refusal(error)

    async def _device(self, request: Request) -> Device:
        return await self._access.device(bearer_token(request.header(b"authorization")))

    def _paced(self, device: Device, receive: Receive) -> Receive:
        """What comes in, no faster than a device may talk. Nothing is read meanwhile, so the agent waits too."""

        async def paced() -> Message:
            event = await receive()
            if event["type"] == "websocket.receive":
                while (wait_s := self._limiter.wait_s(device.id, self._s.clock)) > 0:  # noqa: ASYNC110
                    await asyncio.sleep(wait_s)
            return event

        return paced

    async def line(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WebSocket /agent/v1/line?app=…&journal=…; a device has one per app, and the newest counts."""
        await receive()  # websocket.connect
        try:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            secret_hash = hash_secret(bearer_token(headers.get(b"authorization")))
            device = await self._access.device_of(secret_hash)
            query = parse_qs(scope["query_string"].decode("latin-1"))
            app, journal = _app_of(query.get("app", [""])[0]), _journal_of(query.get("journal", [""])[0])
        except HeliographError as error:
            await _refuse(scope, send, _refusal(error), (CLOSE_REFUSED, error.code))
            return
        # Opening a line costs as much as a check-in, also of an agent that opens one after the other and says nothing.
        if (wait_s := self._limiter.wait_s(device.id, self._s.clock)) > 0:
            await _refuse(scope, send, _too_many(wait_s), (CLOSE_TRY_AGAIN, "too_many"))
            return
        await send({"type": "websocket.accept"})
        place = (device.id, app)
        older = self._sessions.get(place)
        session = self._sessions[place] = AgentSession(
            self._s, self._access, secret_hash, device, app, self._paced(device, receive), send, journal
        )
        if older is not None:
            older.end(CLOSE_REPLACED, "replaced")
        AGENTS.inc()
        try:
            fault = await session.run()
            if fault is not None:
                self._log.error("agent_line.fault", device=device.id, app=app, exc_info=fault)
        finally:
            AGENTS.dec()
            if self._sessions.get(place) is session:
                del self._sessions[place]


def _joined(orders: Orders, offers: Orders) -> Orders:
    """The answer to a check-in over HTTP: what it claimed, and what waits besides and still fits.

    A push that may fill a message waits for the next one where there is anything else.
    """
    waiting = orders.waiting or offers.waiting
    joined = msgspec.structs.replace(orders, cancels=offers.cancels, waiting=waiting)
    taken = len(_ENCODER.encode(joined)) if joined.commands or joined.cancels else 0
    return msgspec.structs.replace(joined, pushes=fitting(offers.pushes, taken))


def _status(error: HeliographError) -> int:
    return {Unauthenticated: 401, NoToken: 401, InvalidInput: 400}.get(type(error), 503)


def _json(status: int, body: Any) -> Answer:
    return Answer(_ENCODER.encode(body), status)


def _refusal(error: HeliographError) -> Answer:
    return _json(_status(error), Refusal(code=error.code, message=str(error)))


def _too_many(wait_s: float) -> Answer:
    refusal = Refusal(code="too_many", message="Too many requests")
    return Answer(_ENCODER.encode(refusal), 429, headers={"Retry-After": str(int(wait_s) + 1)})


async def _refuse(scope: Scope, send: Send, answer: Answer, close: tuple[int, str]) -> None:
    """Refuse the handshake with an HTTP answer where the server can, so that the agent learns why; else with a code."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": close[0], "reason": close[1]})
        return
    said = {"content-type": "application/json", "content-length": str(len(answer.body)), **answer.headers}
    headers = [(name.lower().encode(), value.encode()) for name, value in said.items()]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
