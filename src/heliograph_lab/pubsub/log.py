"""What was published and pushed, and what was not: for tests that ask why nothing came."""

from collections import deque
from datetime import UTC, datetime
from typing import Literal

import msgspec

from heliograph_lab.state import timestamp

NEWEST_KEPT = 20_000
Fate = Literal["published", "dropped", "noTopic", "notGranted"]


class Publication(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One notification of Google's: which resource, and the messages that it became."""

    at: str
    type: str
    enterprise: str
    name: str
    topic: str
    fate: Fate
    message_ids: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True, rename="camel"):
    """One push: the endpoint's status, or null when it could not be reached or did not answer in time."""

    at: str
    message_id: str
    subscription: str
    status: int | None


class NotificationLog:
    """The newest of both, in memory."""

    def __init__(self) -> None:
        self._published: deque[Publication] = deque(maxlen=NEWEST_KEPT)
        self._pushed: deque[Attempt] = deque(maxlen=NEWEST_KEPT)

    def published(self, kind: str, enterprise: str, name: str, topic: str, fate: Fate, ids: tuple[str, ...]) -> None:
        """Note a publication, or why there was none."""
        self._published.append(Publication(_now(), kind, enterprise, name, topic, fate, ids))

    def pushed(self, message_id: str, subscription: str, status: int | None) -> None:
        """Note an attempt to push."""
        self._pushed.append(Attempt(_now(), message_id, subscription, status))

    def shown(self) -> dict[str, list[Publication] | list[Attempt]]:
        """Both, oldest first."""
        return {"items": list(self._published), "pushes": list(self._pushed)}


def _now() -> str:
    return timestamp(datetime.now(UTC))  # real time: it is compared with the server's log
