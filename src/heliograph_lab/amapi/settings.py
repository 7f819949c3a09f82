"""The knobs of the emulator: everything that Google leaves open is one of them."""

from dataclasses import dataclass
from typing import Literal

CancelAnswer = Literal["ok", "400", "404", "501"]


@dataclass(kw_only=True)
class EmulatorSettings:
    """May be changed while the emulator runs; the next request or event sees it. Seconds are of the lab's clock."""

    cancel_delay: float = 0.15
    """From the answer `{}` to a cancel until its outcome."""
    cancel_finished: CancelAnswer = "ok"
    """What cancelling a finished (cancelled, failed, expired) operation answers. Undocumented by Google."""
    cancel_unknown: CancelAnswer = "404"
    """What cancelling an operation that never existed, or was purged, answers. Undocumented by Google."""
    expiry_code: int | None = 4
    """`error.code` of an expired operation; None = an error without code or message. Undocumented by Google."""
    expiry_message: str = "The command expired before the device executed it."
    default_duration: float = 600
    """For a command without `duration` (documented: ten minutes)."""
    drop_delay: float = 1.0
    """From the acknowledgement of a WIPE or RELINQUISH_OWNERSHIP until the device and its operations are gone."""
    purge_after: float | None = None
    """From the end of an operation until `operations.get` answers 404; None = never."""
    success_response: bool = True
    """Whether a success carries `response`. Both are seen in public code."""
    operations_page: int = 100
    operations_page_max: int = 1000
    """Page sizes of operations.list. Undocumented by Google."""
    devices_page: int = 10
    devices_page_max: int = 100
    """Page sizes of devices.list, as documented."""
    require_token: bool = True
    """Whether API routes refuse a request without a bearer token; which one never matters."""
    enterprises: tuple[str, ...] = ()
    """Names (`enterprises/…`) that exist besides those of the fleet's devices."""
