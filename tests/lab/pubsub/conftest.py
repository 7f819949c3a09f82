"""A running emulator, and an endpoint for its pushes, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.lab.pubsub.rig import Endpoint, Rig, endpoint, running
from tests.lab.pubsub.world import World, furnish, lab


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "lab") as rig:
        yield rig


@pytest.fixture
async def target() -> AsyncIterator[Endpoint]:
    async with endpoint() as target:
        yield target


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with lab(tmp_path / "lab") as world:
        await furnish(world)
        yield world
