"""Exit codes, and how every error becomes one. `TABLE` is what `--help` shows."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from heliograph.domain.errors import (
    Conflict,
    FeatureNotAllowed,
    HeliographError,
    InvalidInput,
    NotFound,
    NotPending,
    PermissionMissing,
    StoreUnavailable,
    Unauthenticated,
)


class ExitCode(IntEnum):
    """What a command ends with."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    TIMED_OUT = 7
    INTERRUPTED = 130


TABLE = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "refused or failed; also a command or push that was waited for and did not succeed",
    ExitCode.USAGE: "the command line, a setting or a value in them is wrong",
    ExitCode.UNREACHABLE: "the server or database cannot be reached, or has no time now",
    ExitCode.NOT_ALLOWED: "the API key is not valid or lacks the permission, or the plan leaves this out",
    ExitCode.NOT_FOUND: "no such organization, device, command, key …",
    ExitCode.CONFLICT: "not pending any more, or somebody else is at work there",
    ExitCode.TIMED_OUT: "not final within the time that --wait or --timeout gives",
    ExitCode.INTERRUPTED: "ended with Ctrl-C",
}

_API_CODES = {
    1002: ExitCode.NOT_FOUND,
    1003: ExitCode.UNREACHABLE,
    3001: ExitCode.NOT_FOUND,
    4001: ExitCode.NOT_ALLOWED,
    4002: ExitCode.NOT_ALLOWED,
    4004: ExitCode.NOT_ALLOWED,
    4029: ExitCode.UNREACHABLE,
    5050: ExitCode.NOT_ALLOWED,
    5052: ExitCode.CONFLICT,
    5209: ExitCode.USAGE,
    5213: ExitCode.USAGE,
}
_STATUSES = {401: ExitCode.NOT_ALLOWED, 403: ExitCode.NOT_ALLOWED, 404: ExitCode.NOT_FOUND}
_ERRORS: tuple[tuple[type[HeliographError], ExitCode], ...] = (
    (InvalidInput, ExitCode.USAGE),
    (NotFound, ExitCode.NOT_FOUND),
    (NotPending, ExitCode.CONFLICT),
    (Conflict, ExitCode.CONFLICT),
    (PermissionMissing, ExitCode.NOT_ALLOWED),
    (FeatureNotAllowed, ExitCode.NOT_ALLOWED),
    (Unauthenticated, ExitCode.NOT_ALLOWED),
    (StoreUnavailable, ExitCode.UNREACHABLE),
)
_BARE = "Unauthorized"  # a 4001 that says more is shown as it is
_NEXT = {
    "not_found": ": nothing here has that id; the list of such shows what there is",
    "conflict": ": try again",
    "store_unavailable": ": is it up, and its address right?",
}
_WHERE_TO_LOOK = {
    "command": "heliograph command list DEVICE shows those of a device",
    "push": "its id is what heliograph push send printed",
}
_HINTS = {
    4001: "the API key lacks the permission {permission}; make one that has it: "
    "heliograph key create --permission {permission}",
    4002: "the server saw no API key: set HELIOGRAPH_API_KEY or give --api-key",
    4004: "the API key is unknown, expired or revoked, or was not copied whole; make another on the server's machine: "
    "heliograph key create --data-dir DIR",
    4029: "too many requests for this API key; try again in a minute",
    5050: "the organization's plan leaves out {feature}; an operator switches it on: "
    "heliograph org update ORG --feature {feature}=on",
    5052: "the command is over, so there is nothing to cancel; look at it: heliograph command get",
}


class Failure(Exception):
    """Why a command ends with something else than 0, in a sentence that says what to do next."""

    def __init__(self, exit_code: ExitCode, message: str, *, code: int | str | None = None, data: Any = None) -> None:
        super().__init__(message)
        self.exit_code, self.message, self.code, self.data = exit_code, message, code, data

    def as_json(self) -> dict[str, Any]:
        """The error as `--json` shows it on stderr."""
        error: dict[str, Any] = {"message": self.message, "exitCode": int(self.exit_code)}
        if self.code is not None:
            error["code"] = self.code
        if self.data is not None:
            error["data"] = self.data
        return {"error": error}


def usage(message: str) -> Failure:
    """A wrong command line."""
    return Failure(ExitCode.USAGE, message)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a call of the API needs, where that is known."""

    permission: str = "…"
    feature: str = "…"


def of_answer(status: int, error: dict[str, Any], what: str, needs: Needs = Needs()) -> Failure:
    """The API said no. `what` = what was looked for, for people."""
    code = error.get("code")
    message = str(error.get("message", "")) or f"HTTP {status}"
    data = error.get("data")
    exit_code = _API_CODES.get(code if isinstance(code, int) else 0)
    if exit_code is None:
        exit_code = ExitCode.UNREACHABLE if status >= 500 else _STATUSES.get(status, ExitCode.REFUSED)
    if code == 1002:
        message = "this server does not know the request: is it a Heliograph of the same version, and the URL right?"
    elif code == 3001:
        message = _not_there(what, message)
    elif isinstance(code, int) and (code != 4001 or message == _BARE):
        hint = _HINTS.get(code)
        message = message if hint is None else hint.format(permission=needs.permission, feature=needs.feature)
    fields = data.get("fields") if isinstance(data, dict) else None
    if isinstance(fields, list):
        message = f"{message}: {'; '.join(_field(f) for f in fields if isinstance(f, dict))}"
    return Failure(exit_code, message, code=code, data=data)


def _not_there(what: str, message: str) -> str:
    if not what:
        return (
            "nothing here has that id, or the organization is not this key's: a key works in one organization, and "
            "finds it without --org"
        )
    if message != str(NotFound()):
        return f"{what}: {message}"
    kind = what.partition(" ")[0]
    return f"there is no {what} here" + (f": {_WHERE_TO_LOOK[kind]}" if kind in _WHERE_TO_LOOK else "")


def _field(field: dict[str, Any]) -> str:
    path, reason = str(field.get("path", "")), str(field.get("reason", ""))
    return f"{path}: {reason}" if path else reason


def of_error(error: HeliographError) -> Failure:
    """An error of the domain, from a verb that ran on the database."""
    exit_code = next((code for kind, code in _ERRORS if isinstance(error, kind)), None)
    if exit_code is None:
        exit_code = ExitCode.CONFLICT if error.code == "data_directory_in_use" else ExitCode.REFUSED
    message = str(error)
    if message == (type(error).__doc__ or "").strip():  # nothing more is known than its kind
        message += _NEXT.get(error.code, "")
    return Failure(exit_code, message, code=error.code)
