"""A process that serves until it is told to stop, which it may be at any moment of its life, and more than once."""

import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_INTERRUPTED = 130
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def end_when_signalled() -> None:
    """From now on SIGINT and SIGTERM end this process at once, with exit code 0: it has not begun anything yet."""
    for number in _NUMBERS:
        signal.signal(number, lambda *_: os._exit(0))


@contextmanager
def quiet_until_loaded() -> Iterator[None]:
    """Ctrl-C while the body imports ends the process without a traceback, with the exit code for it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # who is to ignore it does
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def heard_at_once() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt in the body, where asyncio would cancel the task.

    A task that blocks instead of awaiting hears of a cancellation only once it has done all that it blocks for.
    """
    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, signal.default_int_handler):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def until_signalled(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` until it ends, or until SIGINT or SIGTERM asks it to, which is a normal end.

    After that both are ignored, until the process is gone: being asked twice changes nothing.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    signalled = False

    def stop(_number: int, _frame: "FrameType | None") -> None:
        nonlocal signalled
        if not signalled:
            signalled = True
            loop.call_soon_threadsafe(task.cancel)

    # Not the loop's own handlers: those are taken away when it closes, and the process lives on for a moment.
    before = [signal.signal(number, stop) for number in _NUMBERS]
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
    finally:
        for number, handler in zip(_NUMBERS, before, strict=True):
            signal.signal(number, signal.SIG_IGN if signalled else handler)
