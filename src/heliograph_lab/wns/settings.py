"""What Microsoft leaves open about WNS, and its limits."""

from typing import Annotated

import msgspec
from msgspec import Meta

from heliograph_lab.wns.model import DAY

_Seconds = Annotated[float, Meta(gt=0, le=10 * 366 * DAY)]
_Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]


def _says(text: str) -> Meta:
    return Meta(description=text)


class WnsSettings(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """May be changed while the emulator runs. Seconds and minutes are of the lab's clock."""

    channel_seconds: Annotated[_Seconds, _says("life of a channel; then 410. Documented: 30 days")] = 30 * DAY
    store_token_seconds: Annotated[
        _Seconds, _says("life of an access token for an app of the Store. Documented: a day")
    ] = DAY
    entra_token_seconds: Annotated[
        _Seconds, _says("life of an access token from Entra. Shown in the documentation: a day less a second")
    ] = DAY - 1
    toasts_kept: Annotated[
        _Count,
        _says(
            "toasts that wait for an offline device, the newest. The documentation says both: that one is cached, and "
            "(0) that they are dropped"
        ),
    ] = 1
    status_unasked: Annotated[
        bool,
        _says("whether X-WNS-Status also comes without X-WNS-RequestForStatus. Unknown: it is said to be optional"),
    ] = True
    channel_per_minute: Annotated[
        _Count | None,
        _says(
            "a channel's notifications in a minute; beyond it `channelthrottled`. The limit is unknown; `null` = none"
        ),
    ] = None
    app_per_minute: Annotated[
        _Count | None, _says("an app's requests in a minute; beyond it 406. The limit is unknown; `null` = none")
    ] = None
    retry_after: Annotated[
        Annotated[int, Meta(ge=0)] | None, _says("`Retry-After` of the 406, in seconds; `null` = no such header")
    ] = 60
