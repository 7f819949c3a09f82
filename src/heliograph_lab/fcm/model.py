"""What FCM knows: registrations and messages."""

from typing import Any, Literal

import msgspec

MOST_BYTES = 4096
LONGEST_LIFE = 28 * 86_400
Kind = Literal["token", "fid"]


class Registration(msgspec.Struct, kw_only=True):
    """One app on one device, addressed by token or by Firebase installation id. `owner` makes it repeatable."""

    address: str
    kind: Kind
    project: str
    owner: str
    ended: bool = False


class Message(msgspec.Struct, kw_only=True, frozen=True):
    """One accepted message. `expiration`: Unix s of the lab's clock, None = now or never.

    `deleted`: no message, but the word that some were dropped (onDeletedMessages).
    """

    name: str
    address: str
    order: int
    data: dict[str, str] = {}
    notification: dict[str, Any] | None = None
    priority: Literal["normal", "high"] = "normal"
    collapse_key: str | None = None
    expiration: float | None = None
    deleted: bool = False
