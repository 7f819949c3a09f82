"""Every operation that the server offers, each with a request that it would carry out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support import contract, pins
from tests.support.client import Api, Device, Json
from tests.support.demo import Demo

ABSENT = "0123456789abcdef01234567"

DOCUMENTED = tuple(name for name in pins.DATA if name != "cancelAosCommand")
EXTENSIONS = tuple(
    found.id
    for found in contract.operations_of("extensions.yaml", contract.document("extensions.yaml"))
    if found.path.startswith("/v1/")
)
ALL = DOCUMENTED + EXTENSIONS
SETUP = tuple(name for name in ALL if name.startswith("setup."))
LISTS = ("listEmmCommands", "listAosCommands", "listEmmDevices", "listAosDevices", "listDevices")
WAITING = ("getEmmCommand", "getAosCommand", "getAosCommandPushStatus", "getPushNotification")
WITH_BODY = ("createEmmCommand", "createAosCommand", "sendPushNotification", *SETUP)
FEATURES = {
    "createEmmCommand": "androidCommands",
    "listEmmCommands": "androidCommands",
    "getEmmCommand": "androidCommands",
    "cancelEmmCommand": "androidCommandCancel",
    "createAosCommand": "aospCommands",
    "listAosCommands": "aospCommands",
    "getAosCommand": "aospCommands",
    "cancelAosCommand": "aospCommands",
    "getAosCommandPushStatus": "aospCommands",
    "sendPushNotification": "pushNotifications",
    "getPushNotification": "pushNotifications",
}
# Where the pages print none (DECISIONS 23).
OUR_PERMISSIONS = {"sendPushNotification": "mdm.pushNotification.send", "getAosDevice": "mdm.aosp.device.get"}


def permission_of(operation: str) -> str:
    """The permission that the contract, or the decisions, ask for."""
    found = OUR_PERMISSIONS.get(operation) or contract.operations()[operation].permission
    assert found is not None, operation
    return found


@dataclass(frozen=True)
class Known:
    """Records of the demo organization that requests can name."""

    ids: Mapping[str, str]
    android: Device
    aosp: Device
    package: Device


def known_in(demo: Demo) -> Known:
    """One record of each kind; nothing runs."""
    android, aosp, package = demo["android-offline"], demo["aosp-builtin-offline"], demo["package-online"]
    push = demo.api.send("package", package.id).json()["data"]
    ids = {
        "emmDeviceId": android.id,
        "emmCommandId": demo.api.create(android, "LOCK")["id"],
        "aosDeviceId": aosp.id,
        "aosCommandId": demo.api.create(aosp, "LOCK")["id"],
        "deviceId": package.all_platform_id,
        "pushNotificationId": push["id"],
    }
    return Known(ids, android, aosp, package)


def body_for(operation: str, known: Known) -> Json | None:
    """A body that the operation takes."""
    bodies: dict[str, Json] = {
        "createEmmCommand": {"type": "LOCK"},
        "createAosCommand": {"command": "LOCK"},
        "sendPushNotification": {
            "os": "package",
            "identifier": known.package.id,
            "app": "mdmAgent",
            "type": "silent",
            "notification": {"body": "x"},
        },
        "setup.organization.create": {"slug": "no"},
        "setup.organization.feature": {"feature": "androidCommands", "on": True},
        "setup.key.create": {"permissions": ["base.apiKey.create"]},
        "setup.key.revoke": {"id": ABSENT},
        "setup.device.add": {"platform": "ios", "enterprise": None},
        "setup.device.import": {"devices": []},
        # With notifications the demo would hear of results in other ways than tests of faults reckon with.
        "setup.enterprise.connect": {"notifications": False},
        "setup.enterprise.add": {"name": "not the name of one"},
        "setup.provider.add": {"provider": "pushy", "config": {}},
        "setup.provider.get": {"id": ABSENT},
        "setup.provider.update": {"id": ABSENT},
        "setup.provider.test": {"id": ABSENT},
    }
    return bodies.get(operation, {}) if operation in WITH_BODY else None


def path_of(operation: str, ids: Mapping[str, str], organization: str) -> str:
    """The operation's path with these ids."""
    names = {**ids, "organizationId": organization}
    return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], contract.operations()[operation].path)


def names_of(operation: str) -> list[str]:
    """The path parameters beside the organization."""
    return [n for n in re.findall(r"\{(\w+)\}", contract.operations()[operation].path) if n != "organizationId"]


def request(operation: str, api: Api, known: Known, **more: Any) -> httpx2.Response:
    """Call an operation. `ids` replaces some of the records, `body` the body; the rest goes to the client."""
    ids = {**known.ids, **more.pop("ids", {})}
    body = more.pop("body", body_for(operation, known))
    options: dict[str, Any] = {}
    if isinstance(body, bytes):
        options["content"] = body
    elif body is not None:
        options["json"] = body
    method = contract.operations()[operation].method
    return api.call(method, path_of(operation, ids, api.organization), **options, **more)
