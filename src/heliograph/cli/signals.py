"""A process that serves until it is told to stop."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def until_signalled(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` until it ends, or until SIGINT or SIGTERM asks it to, which is a normal end."""
    task = asyncio.ensure_future(main)
    signalled = asyncio.Event()

    def stop() -> None:
        if not signalled.is_set():
            signalled.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled.is_set():
            raise
