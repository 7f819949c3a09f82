"""RESET_PASSWORD: set the screen lock's password. The password is a secret and never echoed."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import HOUR, AgentForm, AmapiForm, CommandType, Params, free_params
from heliograph.domain.fields import Fields
from heliograph.domain.management import Limit

FLAGS = ("REQUIRE_ENTRY", "DO_NOT_ASK_CREDENTIALS_ON_BOOT", "LOCK_NOW")


def _parse(body: Fields) -> Params:
    password = body.text("newPassword")
    flags = body.texts("resetPasswordFlags", choices=FLAGS)
    return Params({"resetPasswordFlags": flags} if flags else {}, {} if password is None else {"newPassword": password})


def _encode(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in ("newPassword", "resetPasswordFlags") if name in params}


def _is_short_pin(params: Mapping[str, Any]) -> bool:
    password = params.get("newPassword")
    return isinstance(password, str) and password.isdigit() and len(password) < 6


def _parse_for_agent(params: Fields) -> Params:
    params.text("newPassword", required=True)
    return free_params(params)


TYPE = CommandType(
    name="RESET_PASSWORD",
    summary="Set a new screen lock password",
    danger=True,
    amapi=AmapiForm(
        default_duration_s=HOUR,
        members=("newPassword", "resetPasswordFlags"),
        parse=_parse,
        encode=_encode,
        limits=(Limit("newPassword", _is_short_pin, until=34, why="a PIN needs six digits from Android 14 on"),),
    ),
    agent=AgentForm(default_duration_s=HOUR, parse=_parse_for_agent),
)
