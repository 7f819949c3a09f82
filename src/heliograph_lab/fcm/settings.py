"""The knobs of the FCM emulator."""

from typing import Annotated

import msgspec
from msgspec import Meta


def _says(text: str) -> Meta:
    return Meta(description=text)


class FcmSettings(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """May be changed while the emulator runs; the next request sees it."""

    unknown_tokens: Annotated[
        bool,
        _says("whether well-formed tokens that nobody registered are taken (messages to them are dropped). Google: no"),
    ] = False
    requests_per_minute: Annotated[
        int, Meta(ge=1), _says("a project's requests in a minute of the lab; then 429 with `Retry-After`. Documented")
    ] = 600_000
    most_pending: Annotated[
        int,
        Meta(ge=1),
        _says("non-collapsible messages that may wait for a device; one more, and all are dropped. Documented"),
    ] = 100
    most_collapse_keys: Annotated[
        int,
        Meta(ge=1),
        _says("collapse keys that may wait for a device; Google does not say which of more it keeps: here the newest"),
    ] = 4
