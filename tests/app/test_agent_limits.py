"""A device may talk a lot, not without end."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
import structlog

from heliograph.app.access import Access, RateLimiter
from heliograph.http.agent_gateway import AgentGateway
from heliograph.http.answers import Request
from heliograph_protocol.messages import CheckIn
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
