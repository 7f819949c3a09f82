"""What all provider tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heliograph.ports.push import Tools
from heliograph.providers.transport import Connections
from tests.providers.transport.clock import StandingClock


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment of whoever runs the tests is no part of them."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
async def tools(clock: StandingClock) -> AsyncIterator[Tools]:
    connections = Connections(clock)
    yield Tools(clock, connections)
    await connections.close()
