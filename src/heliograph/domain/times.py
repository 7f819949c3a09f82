"""Times in words: RFC 3339 in UTC with `Z` (contract decision 3). Inside, times are microseconds since the epoch."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def time_text(micros: int) -> str:
    """A time with milliseconds. Years beyond 9999 cannot be written and are cut."""
    moment = _EPOCH + timedelta(microseconds=min(micros, _LATEST))
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
