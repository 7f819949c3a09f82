"""Which members a success of a documented operation has: by hand, from contract/openapi.yaml and the decisions.

The contract's own schemas require next to nothing on the Android side and refuse nothing, so `{}` would pass them.
`data` of each operation, as a closed schema.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_PROGRESS: Schema = {
    "$ref": "extensions.yaml#/components/schemas/CommandProgress",
    "properties": {"queue": False},  # costs a query: only who reads one command is told its turn
}
_PROGRESS_WITH_TURN: Schema = {"$ref": "extensions.yaml#/components/schemas/CommandProgress"}
_ID: Schema = {"$ref": "extensions.yaml#/components/schemas/Id"}
_TIME: Schema = {"$ref": "extensions.yaml#/components/schemas/Time"}
_TEXT: Schema = {"type": "string"}
_OBJECT: Schema = {"type": "object"}
_SUMMARY: Schema = {"$ref": "extensions.yaml#/components/schemas/DeviceSummary"}


def closed(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with exactly these members."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


# Members of Google's Command resource that are no secret (newPassword and activationCode are).
_GOOGLE: dict[str, Schema] = {
    name: {}
    for name in (
        "type",
        "duration",
        "createTime",
        "userName",
        "errorCode",
        "resetPasswordFlags",
        "startLostModeParams",
        "startLostModeStatus",
        "stopLostModeParams",
        "stopLostModeStatus",
        "clearAppsDataParams",
        "clearAppsDataStatus",
        "addEsimParams",
        "removeEsimParams",
        "esimStatus",
        "wipeParams",
        "requestDeviceInfoParams",
        "requestDeviceInfoStatus",
        "@type",
    )
}
_METADATA = closed({"type": _TEXT, "duration": _TEXT}, _GOOGLE)
_RPC_ERROR = closed({}, {"code": {"type": ["integer", "string"]}, "message": _TEXT, "details": {}})
_OPERATION = closed(
    {"name": {"pattern": "^enterprises/[^/]+/devices/[^/]+/operations/[^/]+$"}, "metadata": _METADATA},
    {"done": {"type": "boolean"}, "error": _RPC_ERROR, "response": _OBJECT},
)

EMM_COMMAND = closed(
    {
        "id": _ID,
        "organization": _ID,
        "emmEnterprise": _ID,
        "status": {"enum": ["PENDING", "DONE", "CANCEL"]},
        "config": closed({"metadata": _METADATA, "done": {"type": "boolean"}}, {"error": _RPC_ERROR}),
        "_config": {"anyOf": [{"const": {}}, _OPERATION]},
        "progress": _PROGRESS,
        "updatedAt": _TIME,
        "createdAt": _TIME,
    },
    {"mdmUser": _ID},
)
# DONE and CANCEL always have `config.done` true; CANCEL never carries a result of the device.
EMM_COMMAND["if"] = {"properties": {"status": {"enum": ["DONE", "CANCEL"]}}}
EMM_COMMAND["then"] = {"properties": {"config": {"properties": {"done": {"const": True}}}}}
EMM_COMMAND_READ = EMM_COMMAND | {"properties": EMM_COMMAND["properties"] | {"progress": _PROGRESS_WITH_TURN}}

AOS_COMMAND = closed(
    {
        "id": _ID,
        "organization": _ID,
        "aosEnterprise": _ID,
        "aosDevice": _ID,
        "command": _TEXT,
        "params": _OBJECT,
        "status": {"enum": ["PENDING", "DONE", "ERROR", "CANCEL", "EXPIRED"]},
        "duration": {"type": "number", "minimum": 0},
        "expiresAt": _TIME,
        "progress": _PROGRESS,
        "updatedAt": _TIME,
        "createdAt": _TIME,
    },
    {"mdmUser": _ID, "pushId": {"type": "string", "maxLength": 256}, "errorMessage": _TEXT},
)

PUSH_STATUS: Schema = {
    "anyOf": [
        {"const": {}},
        closed(
            {"delivered": {"type": "boolean"}, "pendingDevices": {"type": "integer", "minimum": 0}},
            {"expiresAt": _TIME, "sentAt": _TIME},
        ),
    ]
}

EMM_DEVICE = closed(
    {
        "id": _ID,
        "organization": _ID,
        "displayName": _TEXT,
        "type": {"const": "android"},
        "subType": {"const": "device"},
        "state": _TEXT,
        "summary": _SUMMARY,
        "config": closed({}, {"name": _TEXT, "ownership": _TEXT, "managementMode": _TEXT}),
        "enrolledDate": _TIME,
        "updatedAt": _TIME,
        "createdAt": _TIME,
    },
    {"emmEnterprise": _ID, "lastStatusReportTime": _TIME},
)

AOS_DEVICE = closed(
    {
        "id": _ID,
        "organizationId": _ID,
        "aosEnterpriseId": _ID,
        "type": {"const": "aosp"},
        "subType": {"const": "device"},
        "state": _TEXT,
        "displayName": _TEXT,
        "summary": _SUMMARY,
        "enrolledDate": _TIME,
        "updatedAt": _TIME,
        "createdAt": _TIME,
    },
    {"pushNotificationProvider": _ID, "mdmUserId": _ID, "lastStatusReportTime": _TIME},
)

PUSH_SENT = closed(
    {
        "id": _ID,
        "provider": {"enum": ["apns", "builtin", "fcm", "mqtt", "pushy", "webpush", "wns"]},
        "status": {"const": "queued"},
        "createdAt": _TIME,
        "expiresAt": _TIME,
    }
)


def page_of(item: Schema) -> Schema:
    """DECISIONS 10."""
    facts: Schema = {"$ref": "extensions.yaml#/components/schemas/PageFacts"}
    return {
        **facts,
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": item}},
        "unevaluatedProperties": False,
    }


DATA: dict[str, Schema] = {
    "createEmmCommand": EMM_COMMAND,
    "listEmmCommands": page_of(EMM_COMMAND),
    "getEmmCommand": EMM_COMMAND_READ,
    "cancelEmmCommand": EMM_COMMAND,
    "createAosCommand": AOS_COMMAND,
    "listAosCommands": page_of(AOS_COMMAND),
    "getAosCommand": AOS_COMMAND,
    "cancelAosCommand": AOS_COMMAND,
    "getAosCommandPushStatus": PUSH_STATUS,
    "listEmmDevices": page_of(EMM_DEVICE),
    "getEmmDevice": EMM_DEVICE,
    "listAosDevices": page_of(AOS_DEVICE),
    "getAosDevice": AOS_DEVICE,
    "sendPushNotification": PUSH_SENT,
}


def answer(operation: str) -> Schema | None:
    """The success envelope of a documented operation (and of the AOSP cancel, which answers with its record)."""
    data = DATA.get(operation)
    return None if data is None else closed({"status": {"const": True}, "data": data})
