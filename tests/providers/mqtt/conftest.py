"""A real broker and an account there; and a wire on which a test answers, with another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from heliograph.providers.mqtt import Mqtt
from tests.providers.mqtt.rig import build
from tests.providers.test_mqtt import DEVICE, OTHER, contract
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.mqtt_wire import as_broker
from tests.support.wire import Wire


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, [DEVICE, OTHER]) as broker:
        yield broker


@pytest.fixture
async def provider(broker: Mosquitto) -> AsyncIterator[Mqtt]:
    provider = build(broker.account())
    yield provider
    await provider.close()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        as_broker(wire)
        yield wire


@pytest.fixture
async def app(wire: Wire) -> AsyncIterator[Mqtt]:
    app = build(contract(wire.url).config)
    yield app
    await app.close()
