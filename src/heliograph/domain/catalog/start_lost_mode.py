"""START_LOST_MODE: lock a lost device and show how to reach its owner."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import DAY, AmapiForm, CommandType, Params
from heliograph.domain.fields import Fields
from heliograph.domain.management import LOST_MODE
from heliograph.domain.user_messages import user_message

_MESSAGES = ("lostMessage", "lostPhoneNumber", "lostStreetAddress", "lostOrganization")


def _parse(body: Fields) -> Params:
    params = body.obj("startLostModeParams", required=True)
    if params is None:
        return Params()
    kept: dict[str, Any] = {name: user_message(params, name) for name in _MESSAGES if params.has(name)}
    email = params.text("lostEmailAddress")
    if email is not None:
        kept["lostEmailAddress"] = email
    if not any(name != "lostOrganization" and value for name, value in kept.items()):
        body.wrong("startLostModeParams", "needs a message, phone number, e-mail or street address to show")
    return Params({"startLostModeParams": kept})


def _encode(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"startLostModeParams": params["startLostModeParams"]}


TYPE = CommandType(
    name="START_LOST_MODE",
    summary="Put the device in lost mode",
    amapi=AmapiForm(
        default_duration_s=30 * DAY,
        members=("startLostModeParams",),
        parse=_parse,
        encode=_encode,
        status_member="startLostModeStatus",
        # Already lost is what was asked for.
        good=frozenset({"SUCCESS", "ALREADY_IN_LOST_MODE"}),
        works=LOST_MODE,
    ),
)
