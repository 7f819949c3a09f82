"""A device may talk a lot, not without end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
import structlog

from heliograph.app.access import Access, RateLimiter
from heliograph.app.agent_line import open_offers
from heliograph.http import agent_gateway
from heliograph.http.agent_gateway import MAX_WAITING, AgentGateway
from heliograph.http.answers import Answer, Request
from heliograph_protocol.messages import CheckIn, Orders
from tests.app.conftest import Desk

SCOPE: Any = {"headers": [(b"authorization", b"Bearer hla_of_the_device")], "query_string": b"app=mdmAgent"}


class Known:
    """The device is known already."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def device(self, _: str) -> Any:
        return self._desk.aosp

    async def device_of(self, _: bytes) -> Any:
        return self._desk.aosp


async def test_a_device_over_its_rate_is_told_when_to_come_back(desk: Desk) -> None:
    gateway = AgentGateway(desk.services, cast(Access, Known(desk)), RateLimiter(per_minute=6), structlog.get_logger())
    request = Request(SCOPE, {}, msgspec.json.encode(CheckIn(seq=1)))
    assert (await gateway.check_in(request)).status == 200
    refused = await gateway.check_in(request)
    assert (refused.status, msgspec.json.decode(refused.body)["code"]) == (429, "too_many")
    assert 1 <= int(refused.headers["Retry-After"]) <= 11


@pytest.mark.parametrize("answers", [True, False])
async def test_a_device_that_opens_line_after_line_is_told_when_to_come_back(desk: Desk, answers: bool) -> None:
    gateway = AgentGateway(desk.services, cast(Access, Known(desk)), RateLimiter(per_minute=6), structlog.get_logger())
    scope = SCOPE | ({"extensions": {"websocket.http.response": {}}} if answers else {})

    async def opened() -> list[Any]:
        said: list[Any] = []
        coming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]

        async def receive() -> Any:
            return coming.pop(0)

        async def send(event: Any) -> None:
            said.append(event)

        await gateway.line(scope, receive, send)
        return said

    assert (await opened())[0]["type"] == "websocket.accept"
    refused, *body = await opened()
    if answers:
        assert (refused["status"], msgspec.json.decode(body[0]["body"])["code"]) == (429, "too_many")
        assert 1 <= int(dict(refused["headers"])[b"retry-after"]) <= 11
    else:
        assert (refused["type"], refused["code"], refused["reason"]) == ("websocket.close", 1013, "too_many")


async def test_of_check_ins_that_wait_the_newest_do(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = AgentGateway(desk.services, cast(Access, Known(desk)), RateLimiter(0), structlog.get_logger())
    request = Request(SCOPE, {}, msgspec.json.encode(CheckIn(seq=1, claim=8, wait_seconds=60.0)))
    looked = asyncio.Semaphore(0)

    async def and_then_waits(*given: Any) -> Orders:
        offers = await open_offers(*given)
        looked.release()
        return offers

    async def begun() -> asyncio.Task[Answer]:
        polling = asyncio.create_task(gateway.check_in(request))
        await looked.acquire()
        return polling

    def orders_of(polling: asyncio.Task[Answer]) -> Orders:
        return msgspec.json.decode(polling.result().body, type=Orders)

    monkeypatch.setattr(agent_gateway, "open_offers", and_then_waits)
    polls = [await begun() for _ in range(MAX_WAITING + 2)]
    async with asyncio.timeout(30):
        await asyncio.wait(polls[:2])
    assert [orders_of(poll) for poll in polls[:2]] == [Orders(seq=1)] * 2
    assert not any(poll.done() for poll in polls[2:])
    command = await desk.command({"command": "REBOOT"})
    await desk.pay()
    async with asyncio.timeout(30):
        await asyncio.wait(polls)
    assert command.id in {claimed.id for poll in polls[2:] for claimed in orders_of(poll).commands}
    assert gateway._polls == {}
