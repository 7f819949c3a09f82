"""A push that nearly fills a message goes without company: agents read no longer ones, on any line."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
import structlog

from heliograph.app.access import Access, RateLimiter
from heliograph.app.agent_line import check_in, new_offers, register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.pushes import PushRequest, send_push
from heliograph.app.setup import add_account
from heliograph.domain.errors import InvalidInput
from heliograph.http.agent_gateway import AgentGateway
from heliograph.http.answers import Request
from heliograph_protocol.messages import (
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
    CancelAnswer,
    CheckIn,
    Orders,
    PushAck,
    Register,
    Target,
)
from tests.app.conftest import Desk
from tests.app.test_agent_limits import Known

TARGETS = [Target(provider="builtin"), Target(provider="stub", token="any")]  # whichever way it went
AT = "2026-01-01T00:00:00Z"


async def largest_push(desk: Desk, target: Target) -> str:
    """The id of one that could not be a byte larger."""
    await add_account(desk.services, desk.organization, "stub", "", {}, True)
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=[target]))
    for size in range(MAX_MESSAGE_BYTES - 100, 0, -1):
        request = PushRequest("aosp", desk.aosp.id, "mdmAgent", "silent", None, "x", {"blob": "x" * size})
        try:
            push = await send_push(desk.services, desk.work, request, "key:x")
        except InvalidInput:
            continue
        await desk.pay("push", times=1)
        return push.id
    raise AssertionError


async def open_cancels(desk: Desk) -> list[str]:
    """As many as one message names: all claimed by an agent that has not answered yet."""
    commands = [await desk.command({"command": "LOCK"}) for _ in range(MAX_ITEMS)]
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=MAX_ITEMS))
    for command in commands:
        await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    return [command.id for command in commands]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.provider)
async def test_on_a_line(desk: Desk, target: Target) -> None:
    push_id, ids = await largest_push(desk, target), await open_cancels(desk)
    told = [orders async for orders in new_offers(desk.services, desk.aosp, "mdmAgent", set())]
    assert max(len(msgspec.json.encode(orders)) for orders in told) <= MAX_MESSAGE_BYTES
    assert push_id in {push.id for orders in told for push in orders.pushes}
    assert [orders.cancels for orders in told if orders.cancels] == [ids]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.provider)
async def test_over_http(desk: Desk, target: Target) -> None:
    push_id, ids = await largest_push(desk, target), await open_cancels(desk)
    gateway = AgentGateway(desk.services, cast(Access, Known(desk)), RateLimiter(0), structlog.get_logger())
    scope: Any = {"headers": [(b"authorization", b"Bearer hla_of_the_device")], "query_string": b"app=mdmAgent"}
    message, acked, cancelled = CheckIn(seq=1), set[str](), set[str]()
    for _ in range(4):
        answer = await gateway.check_in(Request(scope, {}, msgspec.json.encode(message)))
        assert len(answer.body) <= MAX_MESSAGE_BYTES
        orders = msgspec.json.decode(answer.body, type=Orders)
        acked |= {push.id for push in orders.pushes}
        cancelled |= set(orders.cancels)
        message = CheckIn(
            seq=1,
            push_acks=[PushAck(id=push.id, at=AT) for push in orders.pushes],
            cancel_answers=[CancelAnswer(command_id=c, outcome="confirmed", at=AT) for c in orders.cancels],
        )
    assert push_id in acked
    assert cancelled == set(ids)
