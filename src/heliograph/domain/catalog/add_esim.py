"""ADD_ESIM: install an eSIM profile. The activation code is a secret and never echoed."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import DAY, AmapiForm, CommandType, Params
from heliograph.domain.fields import Fields
from heliograph.domain.management import Limit, Mode, works_on

STATES = ("ACTIVATED", "NOT_ACTIVATED")
WAITING = frozenset({"IN_PROGRESS", "PENDING_USER_ACTION"})


def _parse(body: Fields) -> Params:
    params = body.obj("addEsimParams", required=True)
    if params is None:
        return Params()
    code = params.text("activationCode", required=True, empty=False)
    public = {"activationState": params.text("activationState", choices=STATES) or "NOT_ACTIVATED"}
    label = params.text("carrierName")
    return Params(public | ({"carrierName": label} if label else {}), {"activationCode": code} if code else {})


def _encode(params: Mapping[str, Any]) -> dict[str, Any]:
    # carrierName is our label only: Google knows no such field (contract decision 24).
    return {"addEsimParams": {name: params[name] for name in ("activationCode", "activationState")}}


TYPE = CommandType(
    name="ADD_ESIM",
    summary="Install an eSIM profile",
    amapi=AmapiForm(
        default_duration_s=DAY,
        members=("addEsimParams",),
        parse=_parse,
        encode=_encode,
        status_member="esimStatus",
        good=frozenset({"SUCCESS"}),
        waiting=WAITING,
        works=works_on(api_level=35),
        is_spaced=True,
        limits=(
            Limit(
                "addEsimParams.activationState",
                lambda params: params.get("activationState") == "ACTIVATED",
                works_on(Mode.FULLY_MANAGED, Mode.COMPANY_PROFILE),
            ),
        ),
    ),
)
