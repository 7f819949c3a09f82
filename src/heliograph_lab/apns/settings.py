"""The knobs of the APNs emulator: what Apple leaves open, and what would get in the way of most tests."""

from typing import Annotated

import msgspec
from msgspec import Meta


def _says(text: str) -> Meta:
    return Meta(description=text)


class ApnsSettings(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """May be changed while the emulator runs; the next request sees it."""

    unknown_tokens: Annotated[
        bool,
        _says(
            "whether well-formed device tokens that nobody registered are taken (pushes to them are dropped). Apple: no"
        ),
    ] = False
    token_seconds: Annotated[
        int, Meta(ge=1), _says("how old a provider token (JWT) may be, in real time. Documented: one hour")
    ] = 3600
    token_renewal_seconds: Annotated[
        int,
        Meta(ge=0),
        _says(
            "by how much the `iat` of a key's new provider token must be later than that of the one before, or 429 "
            "`TooManyProviderTokenUpdates` follows. Documented: 1200; off, because each restart of a sender would do it"
        ),
    ] = 0
    streams_before_token: Annotated[
        int,
        Meta(ge=1),
        _says("streams that a connection may have open before its first valid provider token. Documented: 1"),
    ] = 1
    streams: Annotated[
        int, Meta(ge=1), _says("streams that it may have open then. Apple says only that the number may change")
    ] = 1000
    store_without_expiration: Annotated[
        bool,
        _says("whether a push without `apns-expiration` waits for an offline device. Seen with MDM pushes: it is lost"),
    ] = False
    gone_after_seconds: Annotated[
        int,
        Meta(ge=0),
        _says("lab time from a token's end to the first 410; until then 200. Apple delays it, unpredictably"),
    ] = 0
    sandbox: Annotated[
        bool, _says("whether answers carry `apns-unique-id`, as those of the development environment do")
    ] = False
