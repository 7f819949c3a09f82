"""Silence, cuts and limits: what a connection's end means, and that none is left behind."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.domain.fields import Fields
from heliograph.ports.push import Accepted, RetryLater, Unavailable
from heliograph.providers import mqtt
from heliograph.providers.mqtt import Mqtt, link
from tests.providers.mqtt.rig import build, send, until_accepted
from tests.providers.mqtt.test_answers import answering
from tests.providers.samples import tools
from tests.providers.test_mqtt import contract
from tests.support.mqtt_wire import CONNECTED, connected_with
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


async def test_brokers_that_do_not_answer_leave_threads_to_others(wire: Wire) -> None:
    """A connection in the making holds one of the few that also look up names."""
    wire.handler = lambda _: Hang()
    shared = tools()
    config = mqtt.PLUGIN.read_config(Fields(contract(wire.url).config))
    apps = [mqtt.PLUGIN.build(config, shared) for _ in range(6)]
    probes = [asyncio.create_task(app.probe()) for app in apps]
    async with asyncio.timeout(30):
        while len(wire.seen) < link.MOST_ATTEMPTS:  # noqa: ASYNC110 - a list offers no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)  # more would come now
    assert len(wire.seen) == link.MOST_ATTEMPTS
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    for app in apps:
        keeper = app._link._keeper  # type: ignore[attr-defined]
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


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
