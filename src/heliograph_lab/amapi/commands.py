"""What Google checks in a Command that its discovery document cannot say, and the form in which it is kept."""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from heliograph_lab.amapi.discovery import snake
from heliograph_lab.amapi.errors import Violations
from heliograph_lab.amapi.validate import output_only, parse_message, without_defaults
from heliograph_lab.amapi.wire import duration_text, parse_duration, seconds_text, timestamp
from heliograph_lab.fleet import AmapiSpec

PARAMS = {
    "addEsimParams": "ADD_ESIM",
    "clearAppsDataParams": "CLEAR_APP_DATA",
    "removeEsimParams": "REMOVE_ESIM",
    "requestDeviceInfoParams": "REQUEST_DEVICE_INFO",
    "startLostModeParams": "START_LOST_MODE",
    "stopLostModeParams": "STOP_LOST_MODE",
    "wipeParams": "WIPE",
}
"""The members of the oneof `params` and the type that each implies."""

_SERVER_FILLED = ("createTime", "userName", "errorCode")  # not marked as output only, but nobody else's to set
_LONGEST_MESSAGE = 4096
_LONGEST_WIPE_REASON = 200


class Accepted(msgspec.Struct, frozen=True):
    """A command that passed. `echo` is what `metadata` shows: normalized, without secrets unless that is asked for."""

    echo: dict[str, Any]
    duration: timedelta
    weak_password: bool
    """Numeric with fewer than six digits, which Android 14 refuses. The password itself is not kept."""


def accept(body: Any, device: AmapiSpec, default_duration: float, *, echo_password: bool = False) -> Accepted:
    """Check the body of issueCommand; ApiError names everything that is wrong with it."""
    found = Violations()
    command = parse_message("Command", body, found)
    found.raise_if_any()  # as Google does: what cannot be parsed is not looked at any further
    for name in [name for name in command if name in _SERVER_FILLED or output_only("Command", name)]:
        del command[name]
    _infer_type(command, found)
    duration = _duration(command, default_duration, found)
    _check_params(command, device, found)
    found.raise_if_any()
    password = command.get("newPassword", "") if echo_password else command.pop("newPassword", "")
    command.get("addEsimParams", {}).pop("activationCode", None)
    weak = len(password) < 6 and password.isdigit()
    return Accepted(without_defaults("Command", command), duration, weak)


def stamped(command: Accepted, device_name: str, user: str, created: datetime) -> dict[str, Any]:
    """The echo with what the server fills in."""
    enterprise = device_name.partition("/devices/")[0]
    return {**command.echo, "createTime": timestamp(created), "userName": f"{enterprise}/users/{user}"}


def _infer_type(command: dict[str, Any], found: Violations) -> None:
    given = [name for name in PARAMS if name in command]
    for extra in given[1:]:
        found.invalid("command", "oneof", f"oneof field 'params' is already set. Cannot set '{extra}'")
    kind = command.get("type", "COMMAND_TYPE_UNSPECIFIED")
    implied = PARAMS[given[0]] if given else None
    if kind == "COMMAND_TYPE_UNSPECIFIED":
        if implied is None:
            found.add("type", "Command type must be specified.")
        else:
            command["type"] = implied  # documented: the server sets it, so {"wipeParams": {}} is a wipe
    elif implied is not None and kind != implied:
        found.add("type", f"Command type {kind} does not go with {given[0]}.")


def _duration(command: dict[str, Any], default: float, found: Violations) -> timedelta:
    text = command.get("duration")
    duration = parse_duration(text) if text is not None else timedelta(seconds=default)
    if duration is None or duration <= timedelta(0):
        found.add("duration", "Duration must be positive.")
        return timedelta(0)
    command["duration"] = duration_text(text) if text is not None else seconds_text(default)
    return duration


def _check_params(command: dict[str, Any], device: AmapiSpec, found: Violations) -> None:
    kind = command.get("type")
    if kind == "ADD_ESIM":
        _check_add_esim(command.get("addEsimParams", {}), device, found)
    elif kind == "REMOVE_ESIM":
        _required(command.get("removeEsimParams", {}), "remove_esim_params", "iccId", found)
    elif kind == "REQUEST_DEVICE_INFO":
        _required(command.get("requestDeviceInfoParams", {}), "request_device_info_params", "deviceInfo", found)
    elif kind == "START_LOST_MODE":
        _check_lost_mode(command.get("startLostModeParams", {}), found)
    elif kind == "WIPE":
        reason = command.get("wipeParams", {}).get("wipeReason", {})
        _check_message(reason, "wipe_params.wipe_reason", _LONGEST_WIPE_REASON, found)


def _check_add_esim(params: dict[str, Any], device: AmapiSpec, found: Violations) -> None:
    _required(params, "add_esim_params", "activationCode", found)
    _required(params, "add_esim_params", "activationState", found)
    if params.get("activationState") == "ACTIVATED" and device.ownership == "PERSONALLY_OWNED":
        found.add(
            "add_esim_params.activation_state", "ACTIVATED cannot be set for an eSIM on a personally-owned device."
        )


def _check_lost_mode(params: dict[str, Any], found: Violations) -> None:
    filled = [name for name, value in params.items() if value and name != "lostOrganization"]
    if not filled:
        found.add("start_lost_mode_params", "At least one field besides the organization name must be provided.")
    for name, value in params.items():
        if isinstance(value, dict):
            _check_message(value, f"start_lost_mode_params.{snake(name)}", _LONGEST_MESSAGE, found)


def _check_message(message: dict[str, Any], at: str, longest: int, found: Violations) -> None:
    localized = message.get("localizedMessages", {})
    if localized and not message.get("defaultMessage"):
        found.add(f"{at}.default_message", "A default message must be provided with localized messages.")
    for text in [message.get("defaultMessage", ""), *localized.values()]:
        if len(text) > longest:
            found.add(at, f"Message is longer than {longest} characters.")


def _required(params: dict[str, Any], at: str, name: str, found: Violations) -> None:
    value = params.get(name, "")
    if not value or value.endswith("_UNSPECIFIED"):
        found.add(f"{at}.{snake(name)}", "Required field is missing.")
