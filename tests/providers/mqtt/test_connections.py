"""Silence, cuts and limits: what a connection's end means, and that none is left behind."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from heliograph.domain.fields import Fields
from heliograph.ports.push import Accepted, Outcome, RetryLater, Unavailable
from heliograph.providers import mqtt
from heliograph.providers.mqtt import Mqtt, link
from tests.providers.mqtt.rig import build, send, until_accepted
from tests.providers.mqtt.test_answers import answering
from tests.providers.samples import tools
from tests.providers.test_mqtt import contract
from tests.support.mqtt_wire import CONNECTED, as_broker, connected_with
from tests.support.wire import Action, Hang, Raw, Seen, Wire


async def test_silence_before_a_connection_is_surely_not_sent(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_S", 0.2)
    wire.handler = lambda _: Hang()
    app = build(contract(wire.url).config)
    outcome = await send(app)
    assert isinstance(outcome, RetryLater)
    assert not outcome.uncertain
    await app.close()


async def test_silence_after_a_publish_is_uncertain_and_ends_the_connection(wire: Wire) -> None:
    wire.otherwise = Hang()
    app = build(contract(wire.url).config, timeout_s=0.3)
    assert await send(app) == RetryLater("the broker did not acknowledge it in time", uncertain=True)
    answering(wire, 0)
    assert isinstance(await until_accepted(app), Accepted)
    assert [seen.method for seen in wire.seen].count("CONNECT") == 2
    await app.close()


async def after(app: Mqtt, seconds: float) -> Outcome:
    """What comes of a push at once, where the broker answers."""
    async with asyncio.timeout(seconds):
        return await send(app)


async def test_brokers_that_do_not_answer_keep_no_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some take the connection and say nothing; to others there is none, which holds a thread."""
    connect, may_go_on = link.Connection._client_connect, threading.Event()
    held: list[str] = []

    def held_up(connection: link.Connection) -> None:
        if connection._client._username == b"unreachable":
            held.append("")
            may_go_on.wait(30)
        connect(connection)

    monkeypatch.setattr(link.Connection, "_client_connect", held_up)
    async with Wire().serving() as silent, Wire().serving() as well:
        as_broker(silent)
        as_broker(well)
        answering(well, 0)
        silent.handler = lambda _: Hang()
        shared = tools()

        def account(wire: Wire, organization_id: str, username: str = "x") -> Mqtt:
            config = mqtt.PLUGIN.read_config(Fields({**contract(wire.url).config, "username": username}))
            built = mqtt.PLUGIN.build(config, replace(shared, organization_id=organization_id))
            assert isinstance(built, Mqtt)
            return built

        sick = [account(silent, "acme") for _ in range(30)]
        sick += [account(well, "acme", "unreachable") for _ in range(30)]
        waiting = [asyncio.create_task(send(app)) for app in sick]
        async with asyncio.timeout(30):
            while len(held) < 8 or len(silent.seen) < 1:  # noqa: ASYNC110 - a list offers no event
                await asyncio.sleep(0.01)
        other = account(well, "other")
        assert isinstance(await after(other, 15), Accepted)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "at once"), 15)  # the loop's own threads are free
        assert len(held) == link.THREADS // 8
        may_go_on.set()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        keepers = [app._link._keeper for app in sick if app._link._keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await other.close()


async def test_a_cut_after_a_publish_is_uncertain(wire: Wire, app: Mqtt) -> None:
    wire.otherwise = Raw(b"")
    assert await send(app) == RetryLater("the connection was lost before the broker acknowledged it", uncertain=True)


async def test_a_connection_that_ends_as_soon_as_it_is_made(wire: Wire) -> None:
    """aiomqtt then waits for ever for the end of a connection that has ended before it began to wait."""
    app = build(contract(wire.url).config, timeout_s=5)
    wire.handler = lambda _: Raw(CONNECTED)
    answers = [await app.probe() for _ in range(6)]
    assert Unavailable("the broker does not answer in time") not in answers
    assert all(isinstance(answer, Unavailable) for answer in answers)
    answering(wire, 0)
    assert isinstance(await until_accepted(app), Accepted)
    await app.close()


async def test_no_more_in_flight_than_the_broker_grants(wire: Wire) -> None:
    """And what waited for room when the connection ended was surely not sent."""
    published = asyncio.Event()

    def answer(seen: Seen) -> Action:
        if seen.method == "CONNECT":
            return Raw(connected_with(b"\x21\x00\x03"), keep=True)  # Receive Maximum 3
        if sum(seen.method == "PUBLISH" for seen in wire.seen) == 3:
            published.set()
        return Raw(b"", keep=True)

    wire.handler = answer
    app = build(contract(wire.url).config, timeout_s=1)
    outcomes = await asyncio.gather(*(send(app) for _ in range(10)))
    assert published.is_set()
    assert sum(seen.method == "PUBLISH" for seen in wire.seen) == 3
    assert [isinstance(o, RetryLater) and o.uncertain for o in outcomes].count(True) == 3
    await app.close()


async def test_closing_waits_for_what_is_under_way(wire: Wire, app: Mqtt) -> None:
    answering(wire, 0)
    wire.may_answer.set()
    assert isinstance(await send(app), Accepted)
    wire.may_answer.clear()
    wire.got_one.clear()
    sending = asyncio.create_task(send(app))
    await wire.got_one.wait()
    await app.close()
    assert not sending.done()
    wire.may_answer.set()
    assert isinstance(await sending, Accepted)
    assert await send(app) == RetryLater("the client was closed", 0.0, account_wide=True)


async def test_an_account_leaves_no_connection_behind(wire: Wire) -> None:
    app = build(contract(wire.url).config)
    answering(wire, 0)
    await send(app)
    await app.close()
    assert wire.seen[-1].method == "DISCONNECT"
