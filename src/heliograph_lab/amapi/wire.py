"""Times and durations in the JSON form of protocol buffers."""

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_LONGEST = 315_576_000_000  # seconds; google.protobuf.Duration allows 10,000 years
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def parse_duration(text: str) -> timedelta | None:
    """`3600s`, `1.5s`; None when it is not a duration. What is finer than a microsecond is cut off."""
    found = _DURATION.fullmatch(text)
    if found is None or int(found[2]) > _LONGEST:
        return None
    size = timedelta(seconds=int(found[2]), microseconds=int((found[3] or "").ljust(9, "0")[:6]))
    return -size if found[1] else size


def duration_text(text: str) -> str:
    """A valid duration as Google writes it: 0, 3, 6 or 9 decimals, no leading zeros."""
    whole, _, fraction = text.removesuffix("s").partition(".")
    sign = "-" if whole.startswith("-") else ""
    return f"{sign}{int(whole.removeprefix('-'))}{_decimals(fraction)}s"


def seconds_text(seconds: float) -> str:
    """A number of seconds as a duration."""
    return duration_text(f"{seconds:.6f}s")


def is_timestamp(text: str) -> bool:
    """Whether this is an RFC 3339 time; offsets are accepted on input."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return False
    zone = "+00:00" if found[3] in "Zz" else found[3]
    try:
        datetime.fromisoformat(f"{found[1].upper()}{zone}")
    except ValueError:
        return False
    return True


def timestamp(at: datetime) -> str:
    """A time as Google writes it: `Z`, with 0, 3 or 6 decimals."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}{_decimals(f'{at.microsecond:06}')}Z"


def milliseconds(at: datetime) -> int:
    """Since the epoch."""
    return (at - _EPOCH) // _MILLISECOND


def from_milliseconds(number: int) -> datetime:
    """The inverse of `milliseconds`."""
    return _EPOCH + number * _MILLISECOND


def _decimals(digits: str) -> str:
    digits = digits.rstrip("0")
    if not digits:
        return ""
    return "." + digits.ljust(-(-len(digits) // 3) * 3, "0")
