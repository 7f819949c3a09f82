"""FCM and a token endpoint on the wire, time that stands, and an account that sends there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heliograph.ports.push import Tools
from heliograph.providers.fcm.sending import Fcm
from tests.providers.fcm.rig import Google, built
from tests.providers.test_fcm import ACCEPTED
from tests.support.wire import Wire
from tests.support.wire_http2 import Http2Wire


@pytest.fixture
async def google() -> AsyncIterator[Wire]:
    async with Google().serving() as google:
        yield google


@pytest.fixture
async def wire() -> AsyncIterator[Http2Wire]:
    async with Http2Wire().serving() as wire:
        wire.otherwise = ACCEPTED
        yield wire


@pytest.fixture
async def app(wire: Http2Wire, google: Wire, tools: Tools) -> AsyncIterator[Fcm]:
    app = built(tools, wire.url, tokenUrl=f"{google.url}/token")
    yield app
    await app.close()
