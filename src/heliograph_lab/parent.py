"""Ends this process with its parent, however that ends."""

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 0.25


class NotOurParentError(RuntimeError):
    """The process to end with is not the parent of this one."""


def end_with(parent: int, loop: asyncio.AbstractEventLoop) -> None:
    """From now on end at once when `parent` is no longer this process's parent.

    At once means without cleaning up: all state is on disk at any time, and whoever restarts the parent wants the
    directory and the ports free.
    """

    def look() -> None:
        if os.getppid() != parent:
            os._exit(0)

    if sys.platform == "linux":
        # The kernel sends this signal also when only the *thread* that started us ends: hence a look, not an end.
        loop.add_signal_handler(signal.SIGHUP, look)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    if os.getppid() != parent:
        raise NotOurParentError(f"process {parent} is not the parent of the lab (that is {os.getppid()})")

    def watch() -> None:
        while True:
            look()
            time.sleep(_LOOK_EVERY)

    # Where there is no such signal, and when the event loop is stuck.
    threading.Thread(target=watch, name="lab-parent", daemon=True).start()
