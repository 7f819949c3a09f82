"""One Google per test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heliograph.channels import AmapiChannel, AmapiSettings
from heliograph.outbound.google import TokenSource
from tests.channels.google import Google, account
from tests.support.wire import Wire


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    async with Wire().serving() as wire:
        yield Google(wire)


@pytest.fixture
async def channel(google: Google) -> AsyncIterator[AmapiChannel]:
    # Generous, so that a busy machine never decides a test; those about deadlines build their own.
    settings = AmapiSettings(google.wire.url, read_timeout_s=30, cancel_timeout_s=30)
    channel = AmapiChannel(TokenSource(account(google.token_uri)), settings)
    yield channel
    await channel.close()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment of whoever runs the tests is no part of them."""
    monkeypatch.setenv("NO_PROXY", "*")
