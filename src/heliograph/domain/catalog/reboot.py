"""REBOOT: restart the device."""

from heliograph.domain.command_types import MINUTE, AgentForm, AmapiForm, CommandType, free_params
from heliograph.domain.management import Mode, works_on

TYPE = CommandType(
    name="REBOOT",
    summary="Restart the device",
    # Short: nobody wants a device to restart hours after the click.
    amapi=AmapiForm(default_duration_s=10 * MINUTE, works=works_on(Mode.FULLY_MANAGED, api_level=24)),
    agent=AgentForm(default_duration_s=10 * MINUTE, parse=free_params),
)
