"""RELINQUISH_OWNERSHIP: give a company-owned device with a work profile back; the record at Google goes with it."""

from heliograph.domain.command_types import DAY, AmapiForm, CommandType
from heliograph.domain.management import Mode, works_on

TYPE = CommandType(
    name="RELINQUISH_OWNERSHIP",
    summary="Remove the work profile and end management",
    danger=True,
    # Documented for work profiles; what a fully managed device says to it is its own to say.
    amapi=AmapiForm(
        default_duration_s=7 * DAY,
        works=works_on(Mode.FULLY_MANAGED, Mode.COMPANY_PROFILE, api_level=26),
        ends_record=True,
    ),
)
