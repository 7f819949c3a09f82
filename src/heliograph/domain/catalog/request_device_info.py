"""REQUEST_DEVICE_INFO: ask for the eSIM identifier (EID) of a personal device. Its user has to consent.

Google's answer, with the EIDs, stands in the operation's `requestDeviceInfoStatus`.
"""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import DAY, AmapiForm, CommandType, Params
from heliograph.domain.fields import Fields
from heliograph.domain.management import Mode, works_on

KINDS = ("EID",)


def _parse(body: Fields) -> Params:
    params = body.obj("requestDeviceInfoParams") or Fields({}, errors=body.errors)
    params.only(("deviceInfo",))
    return Params({"deviceInfo": params.text("deviceInfo", choices=KINDS) or KINDS[0]})


def _encode(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestDeviceInfoParams": {"deviceInfo": params["deviceInfo"]}}


TYPE = CommandType(
    name="REQUEST_DEVICE_INFO",
    summary="Ask for the eSIM identifier of a personal device",
    amapi=AmapiForm(
        default_duration_s=7 * DAY,
        members=("requestDeviceInfoParams",),
        parse=_parse,
        encode=_encode,
        status_member="requestDeviceInfoStatus",
        good=frozenset({"SUCCEEDED"}),
        waiting=frozenset({"PENDING_USER_ACTION"}),
        permission="mdm.android.command.requestDeviceInfo",
        works=works_on(Mode.PERSONAL_PROFILE, api_level=33),
    ),
)
