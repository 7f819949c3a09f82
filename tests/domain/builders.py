"""Records for tests, with only what matters spelled out."""

from typing import Any

from heliograph.domain.deliveries import Push
from heliograph.domain.ladder import Command

ORGANIZATION = "65f0c0ffee0000000000b001"
DEVICE = "65f0c0ffee0000000000e001"
COMMAND = "65f0c0ffee0000000000a001"
PUSH = "65f0c0ffee0000000000f001"
HOUR = 3_600_000_000


def a_command(**given: Any) -> Command:
    """A queued command for an AOSP device, valid for an hour from time 0."""
    members: dict[str, Any] = {
        "id": COMMAND,
        "organization_id": ORGANIZATION,
        "device_id": DEVICE,
        "enterprise_id": "65f0c0ffee0000000000c001",
        "platform": "aosp",
        "type": "LOCK",
        "params": {},
        "duration_us": HOUR,
        "created_at": 0,
        "updated_at": 0,
        "expires_at": HOUR,
    }
    return Command(**(members | given))


def a_push(**given: Any) -> Push:
    """A queued push over our own line, valid for an hour from time 0."""
    members: dict[str, Any] = {
        "id": PUSH,
        "organization_id": ORGANIZATION,
        "device_id": DEVICE,
        "app": "mdmAgent",
        "kind": "notification",
        "provider": "builtin",
        "account_id": None,
        "message": {"body": "hello"},
        "created_at": 0,
        "updated_at": 0,
        "expires_at": HOUR,
    }
    return Push(**(members | given))
