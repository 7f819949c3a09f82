"""The two clocks of an agent. Tests replace these functions."""

import time
from datetime import UTC, datetime

# Linux's monotonic clock stands still while a device sleeps; a command must not gain life from a sleep.
_BOOT = getattr(time, "CLOCK_BOOTTIME", None)
_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def elapsed() -> float:
    """Seconds on a clock that nobody sets and that counts sleep where the system can tell."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


def wall() -> float:
    """Seconds since the epoch, as far as the device knows."""
    return time.time()


def rfc3339(seconds: float) -> str:
    """`seconds` since the epoch as the wire writes times, for example `2026-01-31T08:00:00.123456Z`.

    A time that no calendar has, such as one that a disk has damaged, becomes the nearest: it decides nothing.
    """
    seconds = min(max(seconds, 0.0), _LAST)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
