"""STOP_LOST_MODE: end lost mode."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import DAY, AmapiForm, CommandType, Params
from heliograph.domain.fields import Fields
from heliograph.domain.management import LOST_MODE


def _parse(body: Fields) -> Params:
    body.obj("stopLostModeParams")
    return Params()


def _encode(_: Mapping[str, Any]) -> dict[str, Any]:
    return {"stopLostModeParams": {}}


TYPE = CommandType(
    name="STOP_LOST_MODE",
    summary="End lost mode",
    amapi=AmapiForm(
        default_duration_s=30 * DAY,
        members=("stopLostModeParams",),
        parse=_parse,
        encode=_encode,
        status_member="stopLostModeStatus",
        good=frozenset({"SUCCESS", "NOT_IN_LOST_MODE"}),
        works=LOST_MODE,
    ),
)
