"""DISENROLL: end the management of an AOSP device."""

from heliograph.domain.command_types import DAY, WIPE_FLAGS, AgentForm, CommandType, Params, free_params
from heliograph.domain.fields import Fields


def _parse(params: Fields) -> Params:
    params.texts("wipeDataFlags", choices=WIPE_FLAGS)
    params.text("wipeReasonMessage", max_length=200)
    return free_params(params)


TYPE = CommandType(
    name="DISENROLL",
    summary="End management of the device",
    danger=True,
    agent=AgentForm(default_duration_s=7 * DAY, parse=_parse),
)
