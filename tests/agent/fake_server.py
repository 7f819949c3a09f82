"""A small, strict server that speaks the agent line over real sockets, for tests of the agent.

It notes every breach of the protocol in `violations`, offers what is not acknowledged again on each connection, keeps
what one journal was given from every other one, and lets a test hold, drop or refuse its answers.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import msgspec
import uvicorn

from heliograph_protocol.messages import (
    CHECK_IN_PATH,
    LINE_PATH,
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
    REGISTER_PATH,
    CheckIn,
    ClaimedCommand,
    Orders,
    PushOffer,
    Refusal,
    Register,
    Registered,
    Report,
)

SECRET = "device-secret-7d1c"
DEVICE_ID = "d1"
Scope = dict[str, Any]


@dataclass
class Command:
    """What the server knows of one command."""

    offer: ClaimedCommand
    claimed: bool = False
    claimed_by: str = ""  # the name of the journal that it was given to; "" = whichever asks
    reports: list[Report] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    cancel_asked: bool = False

    @property
    def rungs(self) -> list[str]:
        return [report.rung for report in self.reports]

    @property
    def path(self) -> list[str]:
        """The rungs without repetitions, which an agent may always make."""
        return list(dict.fromkeys(self.rungs))

    @property
    def over(self) -> bool:
        return "confirmed" in self.answers or any(rung in {"succeeded", "failed"} for rung in self.rungs)


class Connection:
    """A WebSocket: what was offered on it, so that it is not offered twice there."""

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self.send = send
        self.offered: set[str] = set()

    async def say(self, orders: Orders) -> None:
        await self.say_raw(msgspec.json.encode(orders).decode())

    async def say_raw(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})


class FakeServer:
    """State, and an ASGI application over it."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.pushes: dict[str, PushOffer] = {}
        self.acked: list[str] = []
        self.registered: list[Register] = []
        self.check_ins: list[CheckIn] = []
        self.violations: list[str] = []
        self.journals: list[tuple[str, str]] = []  # by which way, and the name of the journal
        self.refusals = 0
        self.connections: set[Connection] = set()
        self.opened = 0
        self.failing: list[int] = []  # statuses of the next answers
        self.answering = asyncio.Event()
        self.answering.set()
        self.losing: Callable[[CheckIn], bool] = lambda _: False  # the line breaks before the server has it
        self.dropping: Callable[[CheckIn], bool] = lambda _: False  # and after, before the answer
        self.check_in_seconds = 300.0
        self.changed = asyncio.Condition()
        self.port = 0
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ for tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            log_config=None,
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        assert self._server is not None
        assert self._task is not None
        self.answering.set()
        self._server.should_exit = True
        await self._task

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for a condition; the time limit only turns a hang into a failure."""
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(met)

    async def command(self, command_id: str, *, life_ms: int = 600_000, **params: Any) -> Command:
        offer = ClaimedCommand(id=command_id, type="LOCK", expires_in_ms=life_ms, params=params)
        self.commands[command_id] = Command(offer)
        await self._notify(Orders(waiting=True))
        return self.commands[command_id]

    async def push(self, push_id: str, kind: Any = "notification", *, life_ms: int = 600_000) -> None:
        offer = PushOffer(id=push_id, kind=kind, expires_in_ms=life_ms, title="Title", body="Body")
        self.pushes[push_id] = offer
        await self._notify(Orders(pushes=[offer]))

    async def cancel(self, command_id: str) -> None:
        if command_id in self.commands:
            self.commands[command_id].cancel_asked = True
        await self._notify(Orders(cancels=[command_id]))

    async def say(self, orders: Orders) -> None:
        """Send unasked orders as they are, to test what no good server would send."""
        await self.say_raw(msgspec.json.encode(orders).decode())

    async def say_raw(self, text: str) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # it may just have gone
                await connection.say_raw(text)

    def path(self, command_id: str) -> list[str]:
        return self.commands[command_id].path

    # ------------------------------------------------------------ protocol

    async def _notify(self, orders: Orders) -> None:
        await self.say(orders)
        async with self.changed:
            self.changed.notify_all()

    def _own(self, journal: str) -> dict[str, Command]:
        """Without those that another journal was given."""
        return {c: command for c, command in self.commands.items() if command.claimed_by in ("", journal)}

    def _open(self, journal: str, offered: set[str]) -> Orders:
        """All that waits for the agent and was not offered on this connection yet."""
        own = self._own(journal)
        pushes = [p for p in self.pushes.values() if p.id not in self.acked and p.id not in offered]
        cancels = [c for c, command in own.items() if command.cancel_asked and not command.answers]
        offered.update(push.id for push in pushes)
        waiting = any(not command.claimed for command in own.values())
        return Orders(pushes=pushes[:MAX_ITEMS], cancels=cancels[:MAX_ITEMS], waiting=waiting)

    async def answer(self, message: CheckIn, journal: str, offered: set[str]) -> Orders:
        self._check(message)
        self.check_ins.append(message)
        self.acked += [ack.id for ack in message.push_acks]
        for report in message.reports:
            self._report(report)
        for answer in message.cancel_answers:
            if answer.command_id in self._own(journal):
                self.commands[answer.command_id].answers.append(answer.outcome)
        orders = msgspec.structs.replace(
            self._open(journal, offered), seq=message.seq, commands=self._hand_out(message, journal, offered)
        )
        async with self.changed:
            self.changed.notify_all()
        await self.answering.wait()
        return orders

    def _hand_out(self, message: CheckIn, journal: str, offered: set[str]) -> list[ClaimedCommand]:
        commands: list[ClaimedCommand] = []
        for command_id, command in self._own(journal).items():
            again = command.claimed and not command.reports and not command.over and command_id not in offered
            fresh = not command.claimed and len(commands) < message.claim
            if again or fresh:
                if fresh:
                    command.claimed, command.claimed_by = True, journal
                commands.append(command.offer)
                offered.add(command_id)
        return commands

    def _report(self, report: Report) -> None:
        command = self.commands.get(report.command_id)
        if command is None or not command.claimed:
            self.violations.append(f"report for {report.command_id}, which was never claimed")
            return
        if "confirmed" in command.answers and report.rung != "acknowledged":
            self.violations.append(f"{report.rung} after the cancel of {report.command_id} was confirmed")
        if report.rung != "acknowledged" and "acknowledged" not in command.rungs:
            self.violations.append(f"{report.rung} of {report.command_id} before acknowledged")
        if report.rung == "deferred":
            command.claimed = False
        command.reports.append(report)

    def _check(self, message: CheckIn) -> None:
        if message.seq < 1:
            self.violations.append("a check-in without a number")
        for items in (message.push_acks, message.reports, message.cancel_answers):
            if len(items) > MAX_ITEMS:
                self.violations.append(f"{len(items)} items in one list")
        if not 0 <= message.claim <= MAX_ITEMS:
            self.violations.append(f"claim of {message.claim}")

    # ------------------------------------------------------------ transport

    async def app(self, scope: Scope, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if headers.get("authorization") != f"Bearer {SECRET}":
            self.refusals += 1
            await _refuse(scope, send, 401, Refusal(code="UNKNOWN_SECRET", message="no device has this secret"))
            async with self.changed:
                self.changed.notify_all()
            return
        query = parse_qs(scope["query_string"].decode())
        journal = query.get("journal", [""])[0]
        if journal:
            self.journals.append((scope["type"], journal))
        if query.get("app") != ["mdmAgent"]:
            self.violations.append(f"no app: {scope['query_string']!r}")
        elif self.failing:
            await _refuse(scope, send, self.failing.pop(0), Refusal(code="BROKEN", message="told to fail"))
        elif scope["type"] == "websocket" and scope["path"] == LINE_PATH:
            await self._websocket(receive, send, journal)
        elif scope["path"] == REGISTER_PATH:
            self.registered.append(msgspec.json.decode(await _body(receive), type=Register))
            shape = Registered(device_id=DEVICE_ID, platform="aosp", check_in_seconds=self.check_in_seconds)
            await _reply(send, 200, msgspec.json.encode(shape))
        elif scope["path"] == CHECK_IN_PATH:
            await self._check_in(receive, send, journal)
        else:
            self.violations.append(f"unknown path {scope['path']}")

    async def _check_in(self, receive: Any, send: Any, journal: str) -> None:
        body = await _body(receive)
        if len(body) > MAX_MESSAGE_BYTES:
            self.violations.append("message too large")
        message = msgspec.json.decode(body, type=CheckIn)
        if self.losing(message):
            return
        orders = await self.answer(message, journal, set())
        if message.wait_seconds and not (orders.pushes or orders.commands or orders.cancels):
            orders = await self._long_poll(message, journal)
        if not self.dropping(message):
            await _reply(send, 200, msgspec.json.encode(orders))

    async def _long_poll(self, message: CheckIn, journal: str) -> Orders:
        found: list[Orders] = []

        def something() -> bool:
            offered: set[str] = set()
            orders = self._open(journal, offered)
            commands = self._hand_out(message, journal, offered) if message.claim else []
            if not (orders.pushes or commands or orders.cancels):
                return self._server is not None and self._server.should_exit
            found.append(msgspec.structs.replace(orders, seq=message.seq, commands=commands))
            return True

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(message.wait_seconds), self.changed:
                await self.changed.wait_for(something)
        return found[0] if found else Orders(seq=message.seq)

    async def _websocket(self, receive: Any, send: Any, journal: str) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        connection = Connection(send)
        self.connections.add(connection)
        self.opened += 1
        try:
            await connection.say(self._open(journal, connection.offered))
            async with self.changed:
                self.changed.notify_all()
            async for text in _frames(receive):
                if len(text.encode()) > MAX_MESSAGE_BYTES:
                    self.violations.append("message too large")
                message = msgspec.json.decode(text, type=CheckIn)
                lost = self.losing(message)
                orders = Orders() if lost else await self.answer(message, journal, connection.offered)
                if lost or self.dropping(message):
                    await send({"type": "websocket.close", "code": 1011})
                    return
                await connection.say(orders)
        finally:
            self.connections.discard(connection)


async def _frames(receive: Any) -> AsyncIterator[str]:
    while (event := await receive())["type"] == "websocket.receive":
        yield event["text"]


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        event = await receive()
        body += bytes(event.get("body", b""))
        if not event.get("more_body"):
            return body


async def _refuse(scope: Scope, send: Any, status: int, refusal: Refusal) -> None:
    prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await _reply(send, status, msgspec.json.encode(refusal), prefix=prefix)


async def _reply(send: Any, status: int, body: bytes, *, prefix: str = "http.response") -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{prefix}.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})
