"""A push service on the wire, a clock that a test sets, and an account that sends there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heliograph.guard import Guard
from heliograph.providers.webpush import WebPush
from heliograph.providers.webpush.vapid import Vapid
from tests.providers.test_webpush import SUBJECT, VAPID, Clock
from tests.support.wire import Answer, Wire


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        wire.otherwise = Answer(201, b"", {"Location": "/m/1"})
        yield wire


@pytest.fixture
async def app(wire: Wire, clock: Clock) -> AsyncIterator[WebPush]:
    app = WebPush(Vapid(VAPID, SUBJECT, clock), Guard([wire.url]), clock, timeout_s=30)
    yield app
    await app.close()
