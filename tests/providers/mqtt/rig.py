"""Accounts at a broker, and pushes that go there."""

from __future__ import annotations

import asyncio
from typing import Any

import aiomqtt

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields
from heliograph.ports.push import Accepted, Outcome, PushMessage, RetryLater
from heliograph.providers import mqtt
from heliograph.providers.mqtt import Mqtt
from tests.providers.samples import WAKE, tools
from tests.providers.test_mqtt import DEVICE
from tests.support.mosquitto import Mosquitto


def build(config: dict[str, Any], timeout_s: float = 30) -> Mqtt:
    provider = mqtt.PLUGIN.build(mqtt.PLUGIN.read_config(Fields(config)), tools())
    assert isinstance(provider, Mqtt)
    provider._timeout_s = timeout_s
    return provider


async def send(provider: Mqtt, message: PushMessage = WAKE, device: str = DEVICE, token: str = "") -> Outcome:
    return await provider.send(message, PushTarget(device, "mdmAgent", "mqtt", "f" * 24, token, 0))


async def until_accepted(provider: Mqtt, message: PushMessage = WAKE) -> Accepted:
    """Send as the dispatcher does: again, after what the provider says."""
    async with asyncio.timeout(30):
        while not isinstance(outcome := await send(provider, message), Accepted):
            assert isinstance(outcome, RetryLater), outcome
            await asyncio.sleep(outcome.after_s or 0.05)
    return outcome


async def inbox(broker: Mosquitto, user: str = DEVICE, count: int = 1) -> list[aiomqtt.Message]:
    """What waits for a device, and the next that comes."""
    async with broker.device(user) as client, asyncio.timeout(30):
        messages = client.messages
        return [await anext(messages) for _ in range(count)]
