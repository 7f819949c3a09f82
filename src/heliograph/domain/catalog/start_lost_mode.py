"""START_LOST_MODE: lock a lost device and show how to reach its owner."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import DAY, AmapiForm, CommandType, Params
from heliograph.domain.fields import Fields

_MESSAGES = ("lostMessage", "lostPhoneNumber", "lostStreetAddress", "lostOrganization")
_MAX_MESSAGE = 4096  # UserFacingMessage.defaultMessage, discovery document


def _message(params: Fields, name: str) -> dict[str, Any] | None:
    message = params.obj(name)
    if message is None:
        return None
    default = message.text("defaultMessage", required=message.has("localizedMessages"), max_length=_MAX_MESSAGE)
    localized = message.obj("localizedMessages")
    texts = {}
    for language in localized.raw if localized else ():
        texts[language] = localized.text(language, required=True, max_length=_MAX_MESSAGE) if localized else None
    kept: dict[str, Any] = {} if default is None else {"defaultMessage": default}
    return kept | ({"localizedMessages": texts} if texts else {})


def _parse(body: Fields) -> Params:
    params = body.obj("startLostModeParams", required=True)
    if params is None:
        return Params()
    kept: dict[str, Any] = {name: _message(params, name) for name in _MESSAGES if params.has(name)}
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
    ),
)
