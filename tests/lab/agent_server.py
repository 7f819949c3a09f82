"""The server's end of the agent line, as small as the protocol allows, for tests of the simulated devices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import msgspec
import uvicorn

from heliograph_lab.transport import bind
from heliograph_protocol.messages import (
    CHECK_IN_PATH,
    LINE_PATH,
    REGISTER_PATH,
    CheckIn,
    ClaimedCommand,
    Orders,
    PushOffer,
    Register,
    Registered,
    Report,
)


class AgentServer:
    """Knows agents by secret and app; hands out pushes until acknowledged, commands when claimed."""

    def __init__(self) -> None:
        self.url = ""
        self.registered: dict[tuple[str, str], Register] = {}
        self.lines: set[tuple[str, str]] = set()  # open WebSockets
        self.pushes: dict[tuple[str, str], list[PushOffer]] = {}
        self.commands: dict[tuple[str, str], list[ClaimedCommand]] = {}
        self.claimed: dict[str, ClaimedCommand] = {}
        self.acknowledged: list[str] = []  # pushes
        self.reports: list[Report] = []

    def rungs(self, command_id: str) -> list[str]:
        return [report.rung for report in self.reports if report.command_id == command_id]

    def orders(self, agent: tuple[str, str], message: CheckIn) -> Orders:
        self.acknowledged += [ack.id for ack in message.push_acks]
        self.reports += message.reports
        for report in message.reports:
            self.claimed.pop(report.command_id, None)
        waiting = self.commands.get(agent, [])
        for command in waiting[: message.claim]:
            self.claimed[command.id] = command
        del waiting[: message.claim]
        pushes = [push for push in self.pushes.get(agent, []) if push.id not in self.acknowledged]
        return Orders(seq=message.seq, pushes=pushes, commands=list(self.claimed.values()), waiting=bool(waiting))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        secret = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        agent = (secret, parse_qs(scope["query_string"].decode())["app"][0])
        if scope["type"] == "websocket" and scope["path"] == LINE_PATH:
            await self._line(agent, receive, send)
        else:
            await self._post(agent, scope["path"], receive, send)

    async def _line(self, agent: tuple[str, str], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.lines.add(agent)
        try:
            while (event := await receive())["type"] == "websocket.receive":
                message = msgspec.json.decode(event.get("text") or event["bytes"], type=CheckIn)
                answer = msgspec.json.encode(self.orders(agent, message)).decode()
                await send({"type": "websocket.send", "text": answer})
        finally:
            self.lines.discard(agent)

    async def _post(self, agent: tuple[str, str], path: str, receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body", False):
                break
        answer: Any
        if path == REGISTER_PATH:
            self.registered[agent] = msgspec.json.decode(body, type=Register)
            answer = Registered(device_id=agent[0], platform="aosp")
        else:
            assert path == CHECK_IN_PATH
            answer = self.orders(agent, msgspec.json.decode(body, type=CheckIn))
        content = msgspec.json.encode(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


@contextlib.asynccontextmanager
async def agent_server() -> AsyncIterator[AgentServer]:
    app = AgentServer()
    bound = bind("127.0.0.1", 0, "a test")
    app.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    config = uvicorn.Config(app, ws="websockets-sansio", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield app
    finally:
        server.should_exit = True
        await task
