"""LOCK: lock the screen as if the lock timeout had passed."""

from heliograph.domain.command_types import DAY, AgentForm, AmapiForm, CommandType, free_params

TYPE = CommandType(
    name="LOCK",
    summary="Lock the device",
    amapi=AmapiForm(default_duration_s=DAY),
    agent=AgentForm(default_duration_s=DAY, parse=free_params),
)
