"""What Pushy knows: devices, pushes, and its errors."""

from typing import Any, Literal

import msgspec

Platform = Literal["android", "ios", "web", "electron", "python"]
UNTRACKED = ("ios", "web")  # delivery to these cannot be followed: they never appear among the pending

DAY = 86_400
FORGOTTEN_AFTER = 2 * DAY  # from delivery to the last recipient
DEFAULT_LIFE = 30 * DAY
LONGEST_LIFE = 365 * DAY
MOST_PENDING_SHOWN = 1_000
MOST_TOKENS = 100_000
MOST_TOPICS = 100
MOST_PRESENCE_TOKENS = 1_000
MOST_DATA_BYTES = 4_096
LONGEST_COLLAPSE_KEY = 32


class PushyError(Exception):
    """An answer of the API's error kind. Only INVALID_PUSH_ID and NO_RESULTS are from its printed documentation."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Device(msgspec.Struct, kw_only=True):
    """A registered device: one app on one machine. `owner` makes its registration repeatable."""

    token: str
    api_key: str
    owner: str
    platform: Platform
    date: int
    last_active: int
    subscriptions: list[str] = []


class Push(msgspec.Struct, kw_only=True):
    """One push as stored; unix seconds of the lab's clock. Who has not got it yet is kept beside it."""

    id: str
    api_key: str
    order: int
    date: int
    expiration: int
    payload: dict[str, Any]
    due: int = 0
    collapse_key: str | None = None
    delivered_at: int | None = None

    def forgotten_at(self) -> int:
        """When the API stops knowing it."""
        if self.delivered_at is None:
            return self.expiration
        return min(self.expiration, self.delivered_at + FORGOTTEN_AFTER)
