"""Web Push at several services: what one says, or does not say, is held against no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heliograph.guard import Guard
from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected
from heliograph.providers.webpush import WebPush
from heliograph.providers.webpush.services import Services
from heliograph.providers.webpush.vapid import Vapid
from tests.providers.samples import WAKE, target
from tests.providers.test_webpush import SUBJECT, VAPID, Clock, subscription
from tests.support.wire import Answer, Wire


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
