"""Times in words: RFC 3339 in UTC with `Z` (contract decision 3). Inside, times are microseconds since the epoch."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def time_text(micros: int) -> str:
    """A time with milliseconds. Years beyond 9999 cannot be written and are cut."""
    seconds, rest = divmod(min(micros, _LATEST), 1_000_000)
    return f"{_to_the_second(seconds)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=4096)  # a record's times, and those of records made together, mostly share their second
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:-6]


def time_of(text: Any) -> int | None:
    """RFC 3339 as microseconds since the epoch; None for anything else."""
    if not isinstance(text, str) or len(text) > 64:
        return None
    try:
        # Nanoseconds are more than Python reads.
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
    return None if moment.tzinfo is None else int(moment.timestamp() * 1_000_000)
