"""WIPE: reset a company-owned device to its factory state, or remove the work profile of a personal one.

Google drops its record of the device once the device has acknowledged, and the command can be cancelled until then.
"""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import DAY, WIPE_FLAGS, AmapiForm, CommandType, Params
from heliograph.domain.fields import Fields
from heliograph.domain.user_messages import user_message

_MAX_REASON = 200


def _parse(body: Fields) -> Params:
    params = body.obj("wipeParams")
    if params is None:
        return Params()
    params.only(("wipeDataFlags", "wipeReason"))  # a misspelt flag must not wipe more than was meant
    kept = {
        "wipeDataFlags": params.texts("wipeDataFlags", choices=WIPE_FLAGS),
        "wipeReason": user_message(params, "wipeReason", max_length=_MAX_REASON, strict=True),
    }
    return Params({name: value for name, value in kept.items() if value})


def _encode(params: Mapping[str, Any]) -> dict[str, Any]:
    # Always there, also empty: a bare type has been seen to fail (research/amapi.md 6.15).
    return {"wipeParams": {name: params[name] for name in ("wipeDataFlags", "wipeReason") if name in params}}


TYPE = CommandType(
    name="WIPE",
    summary="Erase the device, or its work profile, and end management",
    danger=True,
    amapi=AmapiForm(
        # Long: a lost phone may come back online after months, and the wipe can be cancelled until then.
        default_duration_s=365 * DAY,
        members=("wipeParams",),
        parse=_parse,
        encode=_encode,
        permission="mdm.android.command.wipe",
        ends_record=True,
    ),
)
