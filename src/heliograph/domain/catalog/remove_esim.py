"""REMOVE_ESIM: delete an eSIM profile by its ICCID. `iccid` is the documented spelling, `iccId` Google's."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import DAY, AmapiForm, CommandType, Params
from heliograph.domain.fields import Fields
from heliograph.domain.management import works_on

WAITING = frozenset({"IN_PROGRESS", "PENDING_USER_ACTION"})


def _parse(body: Fields) -> Params:
    params = body.obj("removeEsimParams", required=True)
    if params is None:
        return Params()
    spelling = "iccId" if params.has("iccId") else "iccid"
    return Params({"iccId": params.text(spelling, required=True, empty=False)})


def _encode(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"removeEsimParams": {"iccId": params["iccId"]}}


TYPE = CommandType(
    name="REMOVE_ESIM",
    summary="Delete an eSIM profile",
    danger=True,
    amapi=AmapiForm(
        default_duration_s=DAY,
        members=("removeEsimParams",),
        parse=_parse,
        encode=_encode,
        status_member="esimStatus",
        good=frozenset({"SUCCESS"}),
        waiting=WAITING,
        works=works_on(api_level=35),
    ),
)
