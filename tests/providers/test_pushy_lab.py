"""Pushy against the emulator that Pushy's official client is tested with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.ports.push import Accepted, CannotWithdraw, Forgotten, Pending, Rejected, Withdrawn
from heliograph.providers.pushy import Pushy
from heliograph_lab.kernel import Kernel
from heliograph_lab.pushy import Push, PushyEmulator
from tests.lab.serving import serving, until
from tests.providers.samples import NOTIFICATION, WAKE, target

KEY = "abc123"


@pytest.fixture
async def emulator(tmp_path: Path) -> AsyncIterator[PushyEmulator]:
    kernel = Kernel(tmp_path / "lab")
    emulator = PushyEmulator(kernel)
    await emulator.start()
    yield emulator
    await emulator.stop()
    kernel.close()


@pytest.fixture
async def app(emulator: PushyEmulator) -> AsyncIterator[Pushy]:
    async with serving(emulator.app) as url:
        app = Pushy(KEY, url, timeout_s=30)
        yield app
        await app.close()


async def test_a_push_waits_and_arrives(emulator: PushyEmulator, app: Pushy) -> None:
    token = await emulator.register(KEY, "d1", "android")
    sent = await app.send(NOTIFICATION, target("pushy", token))
    assert isinstance(sent, Accepted)
    waiting = await app.status(sent.reference, 30)
    assert isinstance(waiting, Pending)
    assert waiting.devices == 1
    assert waiting.expires_at is not None
    got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def deliver(push: Push) -> None:
        await got.put(push.payload)

    await emulator.connect(token, deliver)
    assert (await got.get())["id"] == NOTIFICATION.id
    await until(lambda: not emulator.store.waiting(sent.reference))
    assert await app.status(sent.reference, 30) == Pending(0, waiting.expires_at)


async def test_a_push_is_withdrawn_once(emulator: PushyEmulator, app: Pushy) -> None:
    token = await emulator.register(KEY, "d1", "android")
    sent = await app.send(WAKE, target("pushy", token))
    assert isinstance(sent, Accepted)
    assert await app.withdraw(sent.reference) == Withdrawn()
    assert isinstance(await app.withdraw(sent.reference), CannotWithdraw)
    assert isinstance(await app.status(sent.reference, 30), Forgotten)


async def test_a_token_that_the_app_does_not_know(app: Pushy) -> None:
    outcome = await app.send(WAKE, target("pushy", "nobody"))
    assert isinstance(outcome, Rejected)
    assert outcome.token_gone
