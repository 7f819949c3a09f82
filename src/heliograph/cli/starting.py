"""Whether something that starts in a directory still lives: it holds a lock there, which ends with its process."""

import fcntl
import os
from pathlib import Path

LONGEST_S = 300.0  # nobody waits longer for something that lives
_FILE = "starting.lock"


def hold(folder: Path) -> int:
    """Hold the lock from now on, also over an exec; answers the file descriptor whose closing ends it. Several may."""
    handle = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_SH)
    os.set_inheritable(handle, True)
    return handle


def lives(folder: Path) -> bool:
    """Whether anybody holds it."""
    try:
        handle = os.open(folder / _FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
