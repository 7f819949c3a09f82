"""What a virtual device makes of a command."""

import hashlib
from typing import Any

import msgspec

from heliograph_lab.amapi.discovery import SCHEMAS
from heliograph_lab.fleet import AmapiSpec, Outcome

# google.rpc.Code by name: an outcome's errorCode may be one of these instead of a command's own.
RPC_CODES = {
    "CANCELLED": 1,
    "UNKNOWN_ERROR": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
_COMMAND_CODES = SCHEMAS["Command"].properties["errorCode"].enum

# Documented in the text of each type. Lost mode depends on the mode as well.
_API_LEVELS = {
    "REBOOT": 24,
    "RELINQUISH_OWNERSHIP": 26,
    "CLEAR_APP_DATA": 28,
    "START_LOST_MODE": 30,
    "STOP_LOST_MODE": 30,
    "REQUEST_DEVICE_INFO": 33,
    "ADD_ESIM": 35,
    "REMOVE_ESIM": 35,
}
_LOST_MODE_ON_WORK_PROFILE = 33
_STATUS_FIELDS = {
    "CLEAR_APP_DATA": "clearAppsDataStatus",
    "START_LOST_MODE": "startLostModeStatus",
    "STOP_LOST_MODE": "stopLostModeStatus",
    "REQUEST_DEVICE_INFO": "requestDeviceInfoStatus",
    "ADD_ESIM": "esimStatus",
    "REMOVE_ESIM": "esimStatus",
}
_GOOD = {"SUCCESS", "SUCCEEDED"}


class Verdict(msgspec.Struct, frozen=True):
    """`fields` go into the Command, `error` into the Operation; `effect` = something happened on the device."""

    fields: dict[str, Any] = {}
    error: dict[str, Any] | None = None
    effect: bool = False


def decide(command: dict[str, Any], weak_password: bool, device: AmapiSpec, outcome: Outcome) -> Verdict:
    """The result of running this command on this device."""
    kind = command["type"]
    if outcome.result == "error":
        return _scripted_error(kind, outcome)
    if device.api_level < _needed_level(kind, device):
        return Verdict({"errorCode": "API_LEVEL"})
    if kind == "REBOOT" and device.management_mode == "PROFILE_OWNER":
        return Verdict()  # done, no error, nothing happened: what a personal work profile really does
    if kind == "RESET_PASSWORD" and weak_password and device.api_level >= 34:
        return Verdict({"errorCode": "INVALID_VALUE"})
    field = _STATUS_FIELDS.get(kind)
    if field is None:
        return Verdict(effect=True)
    status = _status(command, kind, (outcome.statuses or {}).get(kind), device)
    return Verdict({field: status}, effect=_took_effect(status))


def _scripted_error(kind: str, outcome: Outcome) -> Verdict:
    fields: dict[str, Any] = {}
    scripted = (outcome.statuses or {}).get(kind)
    if kind in _STATUS_FIELDS and scripted is not None:
        fields[_STATUS_FIELDS[kind]] = scripted if isinstance(scripted, dict) else {"status": scripted}
    code = outcome.error_code or "UNKNOWN"
    if code in _COMMAND_CODES:
        return Verdict({**fields, "errorCode": code})
    number = int(code) if code.isdecimal() else RPC_CODES.get(code, RPC_CODES["UNKNOWN_ERROR"])
    return Verdict(fields, {"code": number, "message": f"The device reported {code}."})


def _needed_level(kind: str, device: AmapiSpec) -> int:
    if kind in {"START_LOST_MODE", "STOP_LOST_MODE"} and device.management_mode == "PROFILE_OWNER":
        return _LOST_MODE_ON_WORK_PROFILE
    return _API_LEVELS.get(kind, 0)


def _status(command: dict[str, Any], kind: str, scripted: Any, device: AmapiSpec) -> dict[str, Any]:
    if kind == "CLEAR_APP_DATA":
        names = command.get("clearAppsDataParams", {}).get("packageNames", [])
        results = scripted if isinstance(scripted, dict) else {}
        return {"results": {name: {"clearingResult": results.get(name, scripted_text(scripted))} for name in names}}
    if isinstance(scripted, dict):
        return scripted
    if scripted is not None:
        return {"status": scripted}
    if kind == "REQUEST_DEVICE_INFO":
        return {"status": "SUCCEEDED", "eidInfo": {"eids": [{"eid": digits(device.name, 32)}]}}
    if kind == "ADD_ESIM":
        return {"status": "SUCCESS", "esimInfo": {"iccId": "89" + digits(device.name + command["createTime"], 17)}}
    if kind == "REMOVE_ESIM":
        return {"status": "SUCCESS", "esimInfo": {"iccId": command["removeEsimParams"]["iccId"]}}
    return {"status": "SUCCESS"}


def scripted_text(scripted: Any) -> str:
    """One result for every app, or success."""
    return scripted if isinstance(scripted, str) else "SUCCESS"


def digits(seed: str, count: int) -> str:
    """Digits that are always the same for one seed."""
    return f"{int.from_bytes(hashlib.sha256(seed.encode()).digest()):0{count}d}"[-count:]


def _took_effect(status: dict[str, Any]) -> bool:
    results = status.get("results")
    if isinstance(results, dict):
        return any(result["clearingResult"] in _GOOD for result in results.values())
    return status.get("status") in _GOOD
