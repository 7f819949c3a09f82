"""Who may do what: permission names, prefixes and plan features (contract decision 23)."""

import re
from collections.abc import Collection

FEATURES = ("androidCommands", "androidCommandCancel", "aospCommands", "pushNotifications")

PERMISSIONS = (
    "mdm.android.command.list",
    "mdm.android.command.get",
    "mdm.android.command.create",
    "mdm.android.command.cancel",
    # On top of `create`, for these types (domain/catalog).
    "mdm.android.command.wipe",
    "mdm.android.command.requestDeviceInfo",
    "mdm.android.device.list",
    "mdm.android.device.get",
    "mdm.aosp.command.list",
    "mdm.aosp.command.get",
    "mdm.aosp.command.create",
    "mdm.aosp.command.cancel",
    "mdm.aosp.device.list",
    "mdm.aosp.device.get",
    "mdm.global.device.list",
    "mdm.global.device.get",
    "mdm.pushNotification.send",
    "mdm.pushNotification.get",
    "mdm.global.device.create",
    "mdm.global.device.secret",
    "mdm.android.enterprise.create",
    "mdm.android.enterprise.list",
    "mdm.android.enterprise.check",
    "mdm.android.enrollmentToken.create",
    "mdm.android.enrollmentToken.list",
    "mdm.pushProvider.create",
    "mdm.pushProvider.list",
    "mdm.pushProvider.test",
    "mdm.pushProvider.update",
    "base.organization.get",
    "base.apiKey.create",
    "base.apiKey.list",
    "base.apiKey.revoke",
    # What concerns the whole installation; never covered by `*`, since that is one organization's.
    "operator.addresses",
    "operator.metrics",
    "operator.organization.create",
    "operator.organization.list",
    "operator.organization.update",
)

ADDRESSES_PERMISSION = "operator.addresses"
# Held only by a key that names them: no prefix, and not `*`, makes a key that was meant for everyday work one that can
# erase a fleet.
BY_NAME_ONLY = frozenset({"mdm.android.command.wipe", "mdm.android.command.requestDeviceInfo"})

_PATTERN = re.compile(r"\*|([A-Za-z]+\.)+(\*|[A-Za-z]+)")


def is_grant(text: str) -> bool:
    """Whether `text` can stand in a key: `*`, a prefix such as `mdm.android.*`, or a name that exists."""
    if _PATTERN.fullmatch(text) is None:
        return False
    return any(allows((text,), name) for name in PERMISSIONS)


def allows(granted: Collection[str], needed: str) -> bool:
    """Whether the grants of a key cover a permission."""
    if needed in BY_NAME_ONLY:
        return needed in granted
    if "*" in granted and not needed.startswith("operator."):
        return True
    return any(g == needed or (g.endswith(".*") and needed.startswith(g[:-1])) for g in granted)
