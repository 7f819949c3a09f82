"""A device may talk a lot, not without end."""

from __future__ import annotations

from typing import Any, cast

import msgspec
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


async def test_a_device_over_its_rate_is_told_when_to_come_back(desk: Desk) -> None:
    gateway = AgentGateway(desk.services, cast(Access, Known(desk)), RateLimiter(per_minute=6), structlog.get_logger())
    request = Request(SCOPE, {}, msgspec.json.encode(CheckIn(seq=1)))
    assert (await gateway.check_in(request)).status == 200
    refused = await gateway.check_in(request)
    assert (refused.status, msgspec.json.decode(refused.body)["code"]) == (429, "too_many")
    assert 1 <= int(refused.headers["Retry-After"]) <= 11
