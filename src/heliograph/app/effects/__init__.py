"""The effects that the outbox owes: one file per area, joined in one table."""

from heliograph.app.dispatch import Effect
from heliograph.app.effects.cancel import cancel_upstream
from heliograph.app.effects.fall_back import fall_back
from heliograph.app.effects.issue import issue_command
from heliograph.app.effects.look_up import look_up_device
from heliograph.app.effects.push import deliver_push
from heliograph.app.effects.reroute import reroute_waiting
from heliograph.app.effects.revoke import revoke_push
from heliograph.app.effects.strays import cancel_stray, watch_for_strays
from heliograph.app.effects.wake import wake_device

EFFECTS: dict[str, Effect] = {
    "issue": issue_command,
    "watch": watch_for_strays,
    "cancel_stray": cancel_stray,
    "cancel": cancel_upstream,
    "look_up": look_up_device,
    "push": deliver_push,
    "fall_back": fall_back,
    "reroute": reroute_waiting,
    "revoke": revoke_push,
    "wake": wake_device,
}
