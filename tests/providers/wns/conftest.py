"""A served WNS, time that a test moves, and an account that sends there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heliograph.domain.fields import Fields
from heliograph.providers import wns
from heliograph.providers.wns.client import Wns
from tests.providers.test_wns import contract
from tests.providers.wns.rig import ManualClock, Service


@pytest.fixture
async def wire() -> AsyncIterator[Service]:
    async with Service().serving() as wire:
        assert isinstance(wire, Service)
        yield wire


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(wire: Service, clock: ManualClock) -> AsyncIterator[Wns]:
    app = Wns(wns.PLUGIN.read_config(Fields(contract(wire.url).config)), clock, timeout_s=30)
    yield app
    await app.close()
