"""Faults on demand: rules that make an emulator refuse, answer late, or drop the connection."""

import re
from typing import Any, Literal

import msgspec

SERVICES = ("amapi", "pushy", "pubsub", "apns", "fcm", "wns")


class FaultError(ValueError):
    """A rule that cannot be meant; the message says which member and why."""


class Action(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """What happens to a matching request.

    `status` (with `retryAfter`, and `body` in place of the provider's own error) and `cut: before` leave the request
    undone. `delayMs` and `cut: after` carry it out. A delay may be combined with either.
    """

    status: int | None = None
    retry_after: int | None = None
    body: str | None = None
    delay_ms: int | None = None
    cut: Literal["before", "after"] | None = None


class Match(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """Which requests: both members optional; `path` is a regular expression searched in the decoded path."""

    method: str | None = None
    path: str | None = None


class Rule(msgspec.Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """One rule. `times` counts down with each match; absent = until cleared."""

    service: str
    action: Action
    match: Match = msgspec.field(default_factory=Match)
    times: int | None = None


class Faults:
    """The rules in force. The first that matches a request decides."""

    def __init__(self) -> None:
        self._rules: list[tuple[Rule, re.Pattern[str] | None]] = []

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
        return [rule for rule, _ in self._rules]

    def match(self, service: str, method: str, path: str) -> Action | None:
        """The action for this request, if any; uses up one of the rule's `times`."""
        for position, (rule, pattern) in enumerate(self._rules):
            if rule.service != service:
                continue
            if rule.match.method is not None and rule.match.method.upper() != method.upper():
                continue
            if pattern is not None and not pattern.search(path):
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times == 0:
                    del self._rules[position]
            return rule.action
        return None


def _parse(raw: Any, where: str) -> tuple[Rule, re.Pattern[str] | None]:
    try:
        rule = msgspec.convert(raw, Rule)
    except msgspec.ValidationError as error:
        raise FaultError(f"{where}: {error}") from None
    if rule.service not in SERVICES:
        raise FaultError(f"{where}.service: must be one of {', '.join(SERVICES)}")
    if rule.times is not None and rule.times < 1:
        raise FaultError(f"{where}.times: must be 1 or more, or absent")
    _check_action(rule.action, f"{where}.action")
    try:
        pattern = re.compile(rule.match.path) if rule.match.path is not None else None
    except re.error as error:
        raise FaultError(f"{where}.match.path: not a regular expression: {error}") from None
    return rule, pattern


def _check_action(action: Action, where: str) -> None:
    if action.status is None and action.delay_ms is None and action.cut is None:
        raise FaultError(f"{where}: needs status, delayMs or cut")
    if action.status is not None and action.cut is not None:
        raise FaultError(f"{where}: status and cut exclude each other")
    if action.status is not None and not 200 <= action.status <= 599:
        raise FaultError(f"{where}.status: must be 200 to 599")
    if action.status is None and (action.retry_after is not None or action.body is not None):
        raise FaultError(f"{where}: retryAfter and body need a status")
    for name, value in (("retryAfter", action.retry_after), ("delayMs", action.delay_ms)):
        if value is not None and value < 0:
            raise FaultError(f"{where}.{name}: must be 0 or more")
