"""What WNS knows: channels, notifications, scripted answers, and its errors.

https://learn.microsoft.com/windows/apps/develop/notifications/push-notifications/push-request-response-headers
"""

from typing import Annotated, Any, Literal
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Meta

MOST_BYTES = 5000
DAY = 86_400

Kind = Literal["toast", "raw"]
Word = Literal["received", "dropped", "channelthrottled"]


class WnsError(Exception):
    """A refusal. `description` becomes X-WNS-Error-Description."""

    def __init__(self, status: int, description: str, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.retry_after = retry_after


class Channel(msgspec.Struct, kw_only=True):
    """An app's channel on one device; Unix seconds of the lab's clock. `id` is the token in its URI.

    `app`: the package SID or client id. `owner` makes its opening repeatable.
    """

    id: str
    app: str
    owner: str
    opened: float
    expires: float


class Notification(msgspec.Struct, kw_only=True, frozen=True):
    """One notification on its way. `expiration`: Unix seconds of the lab's clock; None = it never ends.

    `cached`: a raw one that may wait for a device.
    """

    id: str
    channel: str
    order: int
    kind: Kind
    body: str
    expiration: float | None
    cached: bool

    @property
    def payload(self) -> dict[str, Any]:
        """What the app makes of it: the JSON of a raw one, or of a toast's `launch` and texts; else empty."""
        try:
            if self.kind == "raw":
                content = msgspec.json.decode(self.body)
                return content if isinstance(content, dict) else {}
            toast = ET.fromstring(self.body.encode())  # noqa: S314 - 5,000 bytes; expat bounds what entities unfold to
            launch = msgspec.json.decode(toast.get("launch", "{}"), type=dict[str, Any])
        except (ET.ParseError, ValueError, msgspec.MsgspecError):
            return {}
        texts = [text.text or "" for text in toast.iterfind("visual/binding/text")]
        return {**launch, **dict(zip(("title", "body"), texts, strict=False))}


class Step(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """An answer that a channel gives in place of its own, `times` times. Nothing is delivered."""

    status: Annotated[int, Meta(ge=200, le=599)] = 200
    wns_status: Word | None = None
    description: Annotated[str, Meta(max_length=1000, pattern="^[ -~]*$")] = ""
    retry_after: Annotated[int, Meta(ge=0)] | None = None
    times: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
