"""The knobs of the publisher: what Google leaves open about its notifications."""

from typing import Annotated

import msgspec
from msgspec import Meta


def _says(text: str) -> Meta:
    return Meta(description=text)


class PublisherSettings(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """May be changed while the publisher runs; the next notification sees it."""

    cancelled: Annotated[
        bool, _says("whether a cancelled operation publishes COMMAND. Unknown: documented is only that one completed")
    ] = True
    expired: Annotated[bool, _says("whether an expired operation publishes COMMAND. Unknown")] = True
    command_last: Annotated[
        bool,
        _says(
            "after a WIPE or RELINQUISH_OWNERSHIP: whether COMMAND comes after the STATUS_REPORT that says DELETED. "
            "Unknown"
        ),
    ] = False
    before_reply: Annotated[
        bool,
        _says(
            "whether the answer to `issueCommand` waits until a subscriber has answered to the operation's COMMAND "
            "(for 10 s at most). Google promises no order"
        ),
    ] = False
    require_grant: Annotated[
        bool,
        _says(
            "whether nothing is published to a topic that does not grant `roles/pubsub.publisher` to "
            "`android-cloud-policy@system.gserviceaccount.com`. Documented"
        ),
    ] = True
