"""The dispatcher keeps what it has claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from heliograph.app.dispatch import Dispatcher
from heliograph.app.services import Services
from heliograph.ports.changes import OutboxItem
from tests.app.conftest import Desk


async def test_a_renewal_that_fails_is_not_the_last(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    over, renewed, failures = asyncio.Event(), asyncio.Event(), iter(range(2))

    async def long_effect(s: Services, item: OutboxItem) -> None:
        await over.wait()

    async def renew(items: Sequence[OutboxItem], lease_until: int) -> None:
        if next(failures, None) is not None:
            raise RuntimeError
        renewed.set()

    monkeypatch.setattr(desk.services.store.system, "renew", renew)
    services = replace(desk.services, limits=replace(desk.services.limits, lease_s=0.03))
    await desk.command({"command": "LOCK"})
    dispatcher = asyncio.create_task(Dispatcher(services, {"push": long_effect}).run())
    async with asyncio.timeout(30):
        await renewed.wait()
    over.set()
    dispatcher.cancel()
    await asyncio.gather(dispatcher, return_exceptions=True)
