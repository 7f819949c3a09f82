"""What APNs knows: device tokens, keys, notifications."""

from typing import Any, Literal

import msgspec

PushType = Literal[
    "alert",
    "background",
    "complication",
    "controls",
    "fileprovider",
    "liveactivity",
    "location",
    "mdm",
    "pushtotalk",
    "voip",
    "widgets",
]
MOST_BYTES = 4096
MOST_VOIP_BYTES = 5120
MOST_COLLAPSE_BYTES = 64
LONGEST_STORED = 30 * 86_400


class Device(msgspec.Struct, kw_only=True):
    """A device token: one app (topic) on one device. `owner` makes its registration repeatable."""

    token: str
    topic: str
    owner: str
    ended_at: int | None = None  # real time, Unix ms: what a 410 says
    ended: float | None = None  # the lab's time, Unix s: from when the 410's delay counts
    reason: Literal["Unregistered", "ExpiredToken"] = "Unregistered"


class Key(msgspec.Struct, kw_only=True, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A signing key of a team. `topics` empty: for all of the team's."""

    key_id: str
    team_id: str
    public_key: str
    topics: list[str] = []


class Notification(msgspec.Struct, kw_only=True, frozen=True):
    """One accepted push. `expiration`: Unix s of the lab's clock, None = not to be stored."""

    id: str
    token: str
    topic: str
    push_type: str | None
    priority: int
    payload: dict[str, Any]
    collapse_id: str | None = None
    expiration: float | None = None
