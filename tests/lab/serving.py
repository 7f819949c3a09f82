"""Serves an ASGI app over a real socket, with the lab's own protocol, and talks to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx2

from heliograph_lab.service import ASGIApp
from heliograph_lab.transport import Listener, bind
from tests.support.direct import direct


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    listener = Listener(app, bind("127.0.0.1", 0, "a test"))
    await listener.start()
    try:
        yield listener.url
    finally:
        await listener.stop()


@contextlib.asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(app) as url, direct(url) as client:
        yield client


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that another task, or another process, brings about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for offers no event
            await asyncio.sleep(0.005)
