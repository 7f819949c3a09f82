"""Faults on demand: rules that make an emulator refuse, answer late, or drop the connection."""

import re
from typing import Any, Literal, NamedTuple

import msgspec
from h2.errors import ErrorCodes

SERVICES = ("amapi", "pushy", "pubsub", "apns", "fcm", "wns")
OVER_HTTP2 = ("apns", "fcm")
ERROR_CODES = {code.name: int(code) for code in ErrorCodes}  # RFC 9113, 7


class FaultError(ValueError):
    """A rule that cannot be meant; the message says which member and why."""


class Action(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """What happens to a matching request.

    `status` (with `retryAfter`, and `body` in place of the provider's own error) and `cut: before` leave the request
    undone. `delayMs` and `cut: after` carry it out. A delay may be combined with either.

    Of APNs and FCM only: `reason` in the provider's own error; `reset` (RST_STREAM with this code), `silence` and
    `goAway` (GOAWAY with a last stream id below this request) leave the request undone.
    """

    status: int | None = None
    retry_after: int | None = None
    body: str | None = None
    delay_ms: int | None = None
    cut: Literal["before", "after"] | None = None
    reason: str | None = None
    reset: str | None = None
    silence: bool = False
    go_away: "GoAwayAction | None" = None


class GoAwayAction(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The GOAWAY's error code, by name, and debug data."""

    code: str = "NO_ERROR"
    debug: str = ""


class Match(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """Which requests, all members optional; `path` and `body` are regular expressions searched in the decoded ones."""

    method: str | None = None
    path: str | None = None
    body: str | None = None


class Rule(msgspec.Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """One rule. `times` counts down with each match; absent = until cleared."""

    service: str
    action: Action
    match: Match = msgspec.field(default_factory=Match)
    times: int | None = None


class Faults:
    """The rules in force. The first that matches a request decides."""

    def __init__(self) -> None:
        self._rules: list[_Parsed] = []

    def replace(self, rules: Any) -> None:
        """Put these rules (decoded JSON) in place of all others; a bad one changes nothing."""
        if not isinstance(rules, list):
            raise FaultError("faults must be a list of rules")
        self._rules = [_parse(rule, f"[{index}]") for index, rule in enumerate(rules)]

    def clear(self) -> None:
        """Remove every rule."""
        self._rules = []

    def rules(self) -> list[Rule]:
        """The rules still in force, with what is left of their `times`."""
        return [parsed.rule for parsed in self._rules]

    def match(self, service: str, method: str, path: str, body: bytes = b"") -> Action | None:
        """The action for this request, if any; uses up one of the rule's `times`."""
        for position, parsed in enumerate(self._rules):
            rule = parsed.rule
            if rule.service != service:
                continue
            if rule.match.method is not None and rule.match.method.upper() != method.upper():
                continue
            if parsed.path is not None and not parsed.path.search(path):
                continue
            if parsed.body is not None and not parsed.body.search(body.decode("utf-8", "replace")):
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times == 0:
                    del self._rules[position]
            return rule.action
        return None


class _Parsed(NamedTuple):
    rule: Rule
    path: re.Pattern[str] | None
    body: re.Pattern[str] | None


def _parse(raw: Any, where: str) -> _Parsed:
    try:
        rule = msgspec.convert(raw, Rule)
    except msgspec.ValidationError as error:
        raise FaultError(f"{where}: {error}") from None
    if rule.service not in SERVICES:
        raise FaultError(f"{where}.service: must be one of {', '.join(SERVICES)}")
    if rule.times is not None and rule.times < 1:
        raise FaultError(f"{where}.times: must be 1 or more, or absent")
    _check_action(rule.action, f"{where}.action")
    if rule.service not in OVER_HTTP2:
        _check_plain(rule.action, f"{where}.action")
    where = f"{where}.match"
    return _Parsed(rule, _pattern(rule.match.path, f"{where}.path"), _pattern(rule.match.body, f"{where}.body"))


def _pattern(text: str | None, where: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text is not None else None
    except re.error as error:
        raise FaultError(f"{where}: not a regular expression: {error}") from None


def _check_plain(action: Action, where: str) -> None:
    beyond = {
        "reason": action.reason,
        "reset": action.reset,
        "silence": action.silence or None,
        "goAway": action.go_away,
    }
    for name, value in beyond.items():
        if value is not None:
            raise FaultError(f"{where}.{name}: only for {' and '.join(OVER_HTTP2)}")


def _check_action(action: Action, where: str) -> None:
    ends = [
        name
        for name, given in (
            ("status", action.status is not None),
            ("cut", action.cut is not None),
            ("reset", action.reset is not None),
            ("silence", action.silence),
            ("goAway", action.go_away is not None),
        )
        if given
    ]
    if not ends and action.delay_ms is None:
        raise FaultError(f"{where}: needs status, delayMs or cut, or reset, silence or goAway")
    if len(ends) > 1:
        raise FaultError(f"{where}: {' and '.join(ends)} exclude each other")
    codes = {"reset": action.reset, "goAway.code": action.go_away.code if action.go_away is not None else None}
    for name, code in codes.items():
        if code is not None and code not in ERROR_CODES:
            raise FaultError(f"{where}.{name}: must be one of {', '.join(ERROR_CODES)}")
    if action.status is not None and not 200 <= action.status <= 599:
        raise FaultError(f"{where}.status: must be 200 to 599")
    if action.status is None and (action.retry_after, action.body, action.reason) != (None, None, None):
        raise FaultError(f"{where}: retryAfter, body and reason need a status")
    for name, value in (("retryAfter", action.retry_after), ("delayMs", action.delay_ms)):
        if value is not None and value < 0:
            raise FaultError(f"{where}.{name}: must be 0 or more")
