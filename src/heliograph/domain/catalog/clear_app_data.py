"""CLEAR_APP_DATA: erase what the named apps have stored. Each app has a result of its own."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.command_types import (
    DAY,
    MISSING,
    AgentForm,
    AmapiForm,
    CommandType,
    Params,
    free_params,
    results_of,
)
from heliograph.domain.fields import Fields
from heliograph.domain.ladder import OUTCOME_UNKNOWN, Reason
from heliograph.domain.management import works_on

_PACKAGE = r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+"


def _packages(fields: Fields) -> list[str]:
    return fields.texts(
        "packageNames", required=True, at_least=1, pattern=_PACKAGE, meaning="must be an Android package name"
    )


def _parse(body: Fields) -> Params:
    params = body.obj("clearAppsDataParams", required=True)
    return Params({"packageNames": _packages(params)} if params else {})


def _encode(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"clearAppsDataParams": {"packageNames": params["packageNames"]}}


def _read_status(status: Mapping[str, Any], params: Mapping[str, Any]) -> Reason | bool:
    results = results_of(status, params.get("packageNames", ()))
    failed = {app: result for app, result in results.items() if result != "SUCCESS"}
    if not failed:
        return bool(results)
    known = [result for result in failed.values() if result != MISSING]
    code = "APPS_NOT_CLEARED" if len(known) == len(results) else "SOME_APPS_NOT_CLEARED"
    # Of an app without a result nobody can tell: it may have been cleared.
    return Reason(
        code if known else OUTCOME_UNKNOWN, ", ".join(f"{app}: {result}" for app, result in sorted(failed.items()))
    )


def _unsaid(params: Mapping[str, Any]) -> Reason | None:
    asked = params.get("packageNames")
    return Reason(OUTCOME_UNKNOWN, f"no result for {', '.join(asked)}") if asked else None


def _parse_for_agent(params: Fields) -> Params:
    _packages(params)
    return free_params(params)


TYPE = CommandType(
    name="CLEAR_APP_DATA",
    summary="Erase the data of apps",
    danger=True,
    amapi=AmapiForm(
        default_duration_s=DAY,
        members=("clearAppsDataParams",),
        parse=_parse,
        encode=_encode,
        status_member="clearAppsDataStatus",
        read_status=_read_status,
        unsaid=_unsaid,
        works=works_on(api_level=28),
    ),
    agent=AgentForm(default_duration_s=DAY, parse=_parse_for_agent),
)
