"""Web Push at several services: what one says, or does not say, is held against no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from heliograph.guard import Guard
from heliograph.outbound import Exchange, NoReply, Outbound, Reply
from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater, Unavailable, Withdrawn
from heliograph.providers.webpush import WebPush
from heliograph.providers.webpush.services import Services
from heliograph.providers.webpush.vapid import Vapid
from tests.app.simulated import TIMEOUT_S
from tests.providers.samples import WAKE, target
from tests.providers.test_webpush import SUBJECT, VAPID, Clock, subscription
from tests.schedules.loop import SimulatedLoop
from tests.support.wire import Answer, Wire

TURNED_BACK = "the push service has not answered others yet"


@pytest.fixture
async def wires() -> AsyncIterator[tuple[Wire, Wire]]:
    async with Wire().serving() as one, Wire().serving() as other:
        one.otherwise = other.otherwise = Answer(201, b"")
        yield one, other


@pytest.fixture
async def app(wires: tuple[Wire, Wire]) -> AsyncIterator[WebPush]:
    clock = Clock()
    app = WebPush(Vapid(VAPID, SUBJECT, clock), Guard([wire.url for wire in wires]), clock, timeout_s=30)
    yield app
    await app.close()


async def send(app: WebPush, wire: Wire, device_id: str = "phone") -> Outcome:
    address = replace(target("webpush", subscription(f"{wire.url}/x")), device_id=device_id)
    return await app.send(WAKE, address)


async def test_that_one_service_takes_the_key_says_nothing_of_what_another_refuses(
    app: WebPush, wires: tuple[Wire, Wire]
) -> None:
    one, other = wires
    assert isinstance(await send(app, one), Accepted)
    other.answers.append(Answer(403, b""))
    said = await send(app, other)
    assert isinstance(said, Misconfigured)
    assert said.one_device
    assert isinstance(await send(app, other), Accepted)
    other.answers.append(Answer(403, b""))
    said = await send(app, other)  # so this subscription was made for another key
    assert isinstance(said, Rejected)
    assert said.token_gone


@pytest.mark.parametrize("status", [403, 410])
async def test_one_that_refuses_several_devices_and_takes_nothing_gives_up_no_more_addresses(
    status: int, app: WebPush, wires: tuple[Wire, Wire]
) -> None:
    one, other = wires
    assert isinstance(await send(app, one), Accepted)
    one.otherwise = Answer(status, b"")
    said = [await send(app, one, device) for device in ("a", "a", "b", "c", "d")]
    assert [isinstance(outcome, Rejected) for outcome in said] == [True, True, True, False, False]
    assert isinstance(said[3], RetryLater)
    assert not said[3].uncertain
    assert isinstance(said[4], Misconfigured if status == 403 else RetryLater)
    assert isinstance(await send(app, other), Accepted)
    one.answers.append(Answer(201, b""))
    assert isinstance(await send(app, one), Accepted)
    assert isinstance(await send(app, one, "d"), Rejected)  # it speaks for this device again


async def test_several_devices_with_an_endpoint_that_nothing_may_go_to_give_up_no_more_addresses() -> None:
    """The account may lack the origin of a service of its own."""
    app = WebPush(Vapid(VAPID, SUBJECT, Clock()), Guard(), Clock())
    address = target("webpush", subscription("https://127.0.0.1/x"))
    said = [await app.send(WAKE, replace(address, device_id=device)) for device in ("a", "b", "c")]
    assert [type(outcome) for outcome in said] == [Rejected, Rejected, RetryLater]
    await app.close()


def test_ever_new_services_take_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliograph.providers.webpush.services._MOST_SERVICES", 3)
    services = Services()
    services.of("https://kept.example/a").takes_key = True
    for number in range(10):
        services.of(f"https://s{number}.example")
        assert services.of("https://kept.example/b").takes_key
    assert len(services._known) == 3  # what shows it is memory


def test_one_that_hangs_keeps_few_requests_waiting_until_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = {"sick.example"}

    async def exchange(http: Outbound, method: str, url: str, **_: object) -> Exchange:
        hangs = any(host in url for host in hanging)
        await asyncio.sleep(TIMEOUT_S if hangs else 0.1)
        return NoReply("no answer in time") if hangs else Reply(201 if method == "POST" else 204)

    monkeypatch.setattr(Outbound, "exchange", exchange)

    async def course() -> None:
        clock = Clock()
        app = WebPush(Vapid(VAPID, SUBJECT, clock), Guard(), clock)

        async def send(host: str, times: int) -> list[Outcome]:
            address = target("webpush", subscription(f"https://{host}/x"))
            return await asyncio.gather(*(app.send(WAKE, address) for _ in range(times)))

        late = RetryLater("no answer in time", uncertain=True)
        assert [type(outcome) for outcome in await send("well.example", 1)] == [Accepted]
        assert [type(outcome) for outcome in await send("new.example", 8)] == [Accepted] * 6 + [RetryLater] * 2
        wave = asyncio.create_task(send("sick.example", 30))
        await asyncio.sleep(0.1)
        assert await app.withdraw("https://sick.example/m/1") == Unavailable(TURNED_BACK)
        assert await app.withdraw("https://well.example/m/1") == Withdrawn()
        assert all(isinstance(outcome, Accepted) for outcome in await send("well.example", 300))
        assert await wave == [late] * 6 + [RetryLater(TURNED_BACK)] * 24
        hanging.clear()
        assert [type(outcome) for outcome in await send("sick.example", 1)] == [Accepted]
        assert all(isinstance(outcome, Accepted) for outcome in await send("sick.example", 300))
        await app.close()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(course())
