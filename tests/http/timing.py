"""The documented bounds, with room for a slow machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

CANCEL_S = 4.0
PUSH_STATUS_S = 3.0
_MARGIN_S = 4.0


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block must not take longer than a documented bound."""
    began = time.monotonic()
    yield
    taken = time.monotonic() - began
    assert taken < seconds + _MARGIN_S, f"{taken:.1f} s, where at most {seconds} s are promised"
