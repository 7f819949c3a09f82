"""Web Push at several services: what one says, or does not say, is held against no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

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


async def send(app: WebPush, wire: Wire) -> Outcome:
    return await app.send(WAKE, target("webpush", subscription(f"{wire.url}/x")))


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
