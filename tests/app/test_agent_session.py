"""An agent's WebSocket: what it is told, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
import structlog

from heliograph.app.access import KEYS_TOPIC, Access, RateLimiter, agent_access_changed, hash_secret
from heliograph.app.agent_line import new_offers, register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.pushes import PushRequest, send_push
from heliograph.app.setup import add_device, renew_agent_secret
from heliograph.domain.devices import Device
from heliograph.domain.errors import StoreUnavailable
from heliograph.http import agent_session
from heliograph.http.agent_gateway import AgentGateway
from heliograph.http.agent_session import AgentSession
from heliograph.http.edge import Message
from heliograph_protocol.messages import (
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    MAX_ITEMS,
    CheckIn,
    Orders,
    PushAck,
    PushOffer,
    Register,
    Target,
)
from tests.app.conftest import Desk

AT = "2026-01-01T00:00:00Z"
DAY_S = 24 * 3600
LONG_S = 30  # nothing here takes as long unless it is broken


@dataclass
class Line:
    """The agent's end of a WebSocket."""

    incoming: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    outgoing: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)

    async def next(self) -> Message:
        async with asyncio.timeout(LONG_S):
            return await self.outgoing.get()

    async def orders(self) -> Orders:
        event = await self.next()
        assert event["type"] == "websocket.send", event
        return msgspec.json.decode(event["text"], type=Orders)

    async def offers(self) -> list[PushOffer]:
        """The pushes that are offered next, whatever is said before."""
        while not (orders := await self.orders()).pushes:
            continue
        return orders.pushes

    async def closed(self) -> int:
        """The code with which the server ends the line, whatever it says before."""
        while (event := await self.next())["type"] != "websocket.close":
            continue
        return int(event["code"])

    def say(self, message: CheckIn) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": msgspec.json.encode(message).decode()})


@dataclass
class Gate:
    """A gateway, and a device whose agent has a secret."""

    desk: Desk
    gateway: AgentGateway
    access: Access
    device: Device
    secret: str

    @asynccontextmanager
    async def line(self, secret: str | None = None, query: bytes = b"") -> AsyncIterator[Line]:
        line = Line()
        scope = {
            "type": "websocket",
            "headers": [(b"authorization", f"Bearer {secret or self.secret}".encode())],
            "query_string": b"app=mdmAgent" + query,
        }
        line.incoming.put_nowait({"type": "websocket.connect"})
        serving = asyncio.create_task(self.gateway.line(scope, line.incoming.get, line.outgoing.put))
        assert (await line.next())["type"] == "websocket.accept"
        yield line
        line.incoming.put_nowait({"type": "websocket.disconnect"})
        async with asyncio.timeout(LONG_S):
            await serving

    async def pushes(self, number: int) -> list[str]:
        request = PushRequest("aosp", self.device.id, "mdmAgent", "notification", None, "text", None)
        sent = [await send_push(self.desk.services, self.desk.work, request, "key:x") for _ in range(number)]
        await self.desk.pay("push", times=number)
        return [push.id for push in sent]

    async def command(self) -> str:
        command = await self.desk.command({"command": "LOCK"}, self.device)
        await self.desk.pay()
        return command.id


@pytest.fixture
async def gate(desk: Desk) -> Gate:
    device, secret = await add_device(desk.services, desk.organization, {"platform": "aosp"})
    await register_agent(
        desk.services, device, Register(app="mdmAgent", agent_version="1", targets=[Target(provider="builtin")])
    )
    access = Access(desk.services)
    gateway = AgentGateway(desk.services, access, RateLimiter(0), structlog.get_logger())
    return Gate(desk, gateway, access, device, secret)


async def heard(line: Line, number: int) -> list[str]:
    ids: list[str] = []
    while len(ids) < number:
        ids += [push.id for push in await line.offers()]
    return ids


async def test_a_backlog_comes_whole_without_an_acknowledgement(gate: Gate) -> None:
    sent = await gate.pushes(2 * MAX_ITEMS + 5)
    async with gate.line() as line:
        assert await heard(line, len(sent)) == sent


async def test_what_is_not_acknowledged_holds_nothing_back(gate: Gate) -> None:
    old = await gate.pushes(MAX_ITEMS)
    async with gate.line() as line:
        assert await heard(line, len(old)) == old
        new = await gate.pushes(1)
        assert await heard(line, 1) == new
        line.say(CheckIn(seq=1, push_acks=[PushAck(id=new[0], at=AT)]))
        assert (await line.orders()).seq == 1
        newest = await gate.pushes(1)
        assert await heard(line, 1) == newest


async def test_what_does_not_fit_into_one_message_comes_in_the_next(gate: Gate) -> None:
    request = PushRequest("aosp", gate.device.id, "mdmAgent", "silent", None, "x", {"blob": "x" * 60_000})
    for _ in range(3):
        await send_push(gate.desk.services, gate.desk.work, request, "key:x")
    await gate.desk.pay()
    async with gate.line() as line:
        assert len(await heard(line, 3)) == 3


async def test_a_line_forgets_what_it_offered_once_that_is_over(gate: Gate) -> None:
    """Pushes that the agent never acknowledges, on a line that lives for months."""
    sent: list[Message] = []

    async def send(event: Message) -> None:
        sent.append(event)

    services, incoming = gate.desk.services, asyncio.Queue[Message]()
    secret_hash = hash_secret(gate.secret)
    session = AgentSession(services, gate.access, secret_hash, gate.device, "mdmAgent", incoming.get, send)
    for day in range(5):
        [push_id] = await gate.pushes(1)
        for _ in range(2):  # once is enough
            await session._tell()
        assert len([event for event in sent if push_id in event["text"]]) == 1
        assert list(session._offered) == [push_id], day
        gate.desk.clock.advance(DAY_S + 1)


async def test_a_new_secret_ends_the_line_of_the_old_one_at_once(gate: Gate) -> None:
    async with gate.line() as line:
        secret = await renew_agent_secret(gate.desk.services, gate.desk.organization, gate.device.all_platform_id)
        assert await line.closed() == agent_session.CLOSE_TRY_AGAIN
        gate.access.forget()
        async with gate.line(secret) as another:
            command_id = await gate.command()
            assert (await another.offers())[0].command_id == command_id


async def test_an_old_secret_claims_nothing_even_where_no_word_of_the_new_one_came(gate: Gate) -> None:
    await gate.command()
    async with gate.line() as line:
        await line.orders()
        await gate.desk.work.setup.replace_agent_secret(gate.device.id, b"another")
        gate.desk.clock.advance(6)
        line.say(CheckIn(seq=1, claim=8))
        assert await line.closed() == CLOSE_REFUSED
    [push] = await gate.desk.work.pushes.offers(gate.device.id, "mdmAgent", gate.desk.clock.now(), 9)
    assert push.command_id is not None
    found = await gate.desk.work.commands.find(push.command_id)
    assert found is not None
    assert found.rung == "issued"


async def test_a_deleted_device_is_told_nothing_more(gate: Gate) -> None:
    async with gate.line() as line:
        await gate.desk.work.setup.save_device(replace(gate.device, state="DELETED"))
        gate.access.forget()
        await gate.command()
        assert await line.closed() == CLOSE_REFUSED


async def test_the_newest_line_of_a_device_counts(gate: Gate) -> None:
    async with gate.line() as older, gate.line() as newer:
        assert await older.closed() == CLOSE_REPLACED
        command_id = await gate.command()
        assert (await newer.offers())[0].command_id == command_id
    async with gate.line() as third:  # one that ended by itself is nobody's rival
        assert (await third.orders()).waiting


async def test_a_fault_in_what_tells_the_agent_ends_the_line(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    async with gate.line() as line:
        monkeypatch.setattr(f"{agent_session.__name__}.new_offers", broken)
        gate.desk.services.wakeups.notify([f"device:{gate.device.id}"])
        assert await line.closed() == agent_session.CLOSE_FAULT


async def test_a_database_that_is_away_for_a_moment_ends_no_line(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_session, "_STORE_PAUSE_S", 0.0)
    failures = iter(range(2))

    def away(*given: Any) -> AsyncIterator[Orders]:
        if next(failures, None) is not None:
            raise StoreUnavailable
        return new_offers(*given)

    async with gate.line() as line:
        monkeypatch.setattr(f"{agent_session.__name__}.new_offers", away)
        command_id = await gate.command()
        assert (await line.offers())[0].command_id == command_id


async def test_a_message_that_is_none_ends_the_line(gate: Gate) -> None:
    async with gate.line() as line:
        line.incoming.put_nowait({"type": "websocket.receive", "text": "{"})
        assert await line.closed() == agent_session.CLOSE_BAD_MESSAGE


async def test_keys_and_lines_hear_of_a_change_of_access(desk: Desk) -> None:
    with desk.services.wakeups.subscribe(KEYS_TOPIC) as keys:
        agent_access_changed(desk.services, desk.aosp.id)
        assert await keys.wait(0)


async def test_the_next_line_with_another_journal_is_neither_given_nor_asked_to_cancel(gate: Gate) -> None:
    desk, command_id = gate.desk, await gate.command()
    async with gate.line(query=b"&journal=one") as line:
        line.say(CheckIn(seq=1, claim=8))
        while not (orders := await line.orders()).commands:
            continue
        assert [c.id for c in orders.commands] == [command_id]
    await cancel_command(desk.services, desk.work, command_id, gate.device.id, "key:x", "over")
    async with gate.line(query=b"&journal=other") as line:
        line.say(CheckIn(seq=2, claim=8))
        while not (orders := await line.orders()).seq:
            assert not orders.cancels
        assert (orders.commands, orders.cancels, orders.waiting) == ([], [], False)
    async with gate.line(query=b"&journal=one") as line:
        assert (await line.orders()).cancels == [command_id]
