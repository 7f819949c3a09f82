"""The knobs of the emulator: everything that Google leaves open is one of them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CancelAnswer = Literal["ok", "400", "403", "404", "501"]
_LONGEST = 10 * 366 * 86_400  # the lab's clock leaves room for ten years
Seconds = Annotated[float, Meta(ge=0, le=_LONGEST)]
Window = Annotated[float, Meta(gt=0, le=_LONGEST)]
Text = Annotated[str, Meta(max_length=1000)]
Code = Annotated[int, Meta(ge=1, le=16)]
ClientError = Annotated[int, Meta(ge=400, le=499)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
PageSize = Annotated[int, Meta(ge=1, le=10_000)]
EnterpriseName = Annotated[str, Meta(pattern=r"^enterprises/[^/:]{1,100}$")]


def _says(text: str) -> Meta:
    return Meta(description=text)


class EmulatorSettings(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """May be changed while the emulator runs; the next request or event sees it. Seconds are of the lab's clock.

    The descriptions are those of the documentation. "Unknown" in them: Google documents nothing.
    """

    expiry_code: Annotated[
        Code | None,
        _says("`error.code` of an expired operation. Unknown; 4 is DEADLINE_EXCEEDED. `null` = an empty error"),
    ] = 4
    expiry_message: Annotated[Text, _says("`error.message` of an expired operation. Unknown")] = (
        "The command expired before the device executed it."
    )
    cancel_delay: Annotated[Seconds, _says("from the answer `{}` to a cancel until its outcome, in seconds")] = 0.15
    cancel_finished: Annotated[
        CancelAnswer,
        _says(
            "answer to the cancel of a finished operation. Unknown; `ok` (`{}`) tells a client least, so it must look"
        ),
    ] = "ok"
    cancel_expired: Annotated[
        CancelAnswer, _says("answer to the cancel of an expired operation. Unknown; as for a finished one")
    ] = "ok"
    cancel_unknown: Annotated[
        CancelAnswer,
        _says("answer to the cancel of an operation that never was, or was purged. Unknown; as `get` does"),
    ] = "404"
    cancel_foreign: Annotated[
        CancelAnswer,
        _says("answer to the cancel of an operation of somebody else's enterprise. Unknown; as all other methods do"),
    ] = "403"
    purge_after: Annotated[
        Seconds | None,
        _says("seconds from the end of an operation until it is forgotten. Unknown; `null` = never"),
    ] = None
    echo_new_password: Annotated[
        bool,
        _says(
            "whether `metadata` of a RESET_PASSWORD shows `newPassword`. Unknown; if so, the lab's file holds it too"
        ),
    ] = False
    success_response: Annotated[
        bool, _says("whether a success carries `response`. Unknown: public code shows both")
    ] = True
    unmanaged_status: Annotated[
        ClientError | None,
        _says(
            'HTTP status of "Device is no longer being managed", which commands and changes to a device that is gone '
            "answer with. Operators report the text, nobody the status; `null` = 404 "
            '"Requested entity was not found.", as is documented for `get`'
        ),
    ] = None
    quota_limit: Annotated[
        Count | None,
        _says(
            "requests a window and project; beyond it 429. What a project gets is unknown (60 to 600 a minute are "
            "reported); `null` = no limit"
        ),
    ] = None
    quota_window: Annotated[
        Window, _says("length of the quota's window, in seconds. Google's limit is by the minute")
    ] = 60
    quota_retry_after: Annotated[
        Count | None, _says("`Retry-After` of the quota's 429, in seconds. Unknown; `null` = no such header")
    ] = None
    default_duration: Annotated[Window, _says("life of a command without `duration`, in seconds. Documented")] = 600
    drop_delay: Annotated[
        Seconds,
        _says("seconds from the acknowledgement of a WIPE or RELINQUISH_OWNERSHIP until the device is gone. Unknown"),
    ] = 1.0
    delete_customer_managed: Annotated[
        CancelAnswer,
        _says(
            "answer to `enterprises.delete` of a customer-managed enterprise; `ok` deletes it. Documented: only "
            "EMM-managed ones can be deleted; the error is unknown"
        ),
    ] = "400"
    devices_page: Annotated[PageSize, _says("default page size of devices and enrollment tokens. Documented")] = 10
    devices_page_max: Annotated[PageSize, _says("largest page of devices and enrollment tokens. Documented")] = 100
    operations_page: Annotated[PageSize, _says("default page size of operations and enterprises. Unknown")] = 100
    operations_page_max: Annotated[PageSize, _says("largest page of operations and enterprises. Unknown")] = 1000
    require_token: Annotated[
        bool, _says("whether a request without a bearer token is refused (401); which token never matters")
    ] = True
    enterprises: Annotated[
        Annotated[tuple[EnterpriseName, ...], Meta(max_length=1000)],
        _says("names (`enterprises/…`) that exist without having been created"),
    ] = ()
