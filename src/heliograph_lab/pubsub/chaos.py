"""What can go wrong between Google and a subscriber: rules that spoil notifications on purpose. Pure."""

import base64
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from heliograph_lab.pubsub.keys import TokenFault

Count = Annotated[int, Meta(ge=1, le=100)]
Seconds = Annotated[float, Meta(ge=0, le=31 * 86_400)]
Malformed = Literal["json", "base64", "utf8", "list", "large", "body"]
LARGE = 10_000_000  # bytes: the most that Pub/Sub takes
HOLD = 60.0  # seconds of the lab's clock after which a message held for the next one goes alone
_DONE = ("done", "response", "error")


class RuleError(ValueError):
    """A rule that cannot be meant; the message says which member and why."""


class Match(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """Which notifications: both members optional."""

    type: str | None = None
    enterprise: str | None = None


class Action(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """What happens to a notification. Members may be combined.

    `token` and `malformed: body` concern one attempt to push, everything else the publication.
    """

    drop: bool = False
    copies: Count | None = None
    redeliveries: Count | None = None
    delay_seconds: Seconds | None = None
    reorder: bool = False
    unfinished_first: bool = False
    type: str | None = None
    no_data: bool = False
    without: tuple[str, ...] = ()
    enterprise: str | None = None
    malformed: Malformed | None = None
    token: TokenFault | None = None

    @property
    def at_push(self) -> bool:
        """Whether it concerns one attempt to push."""
        return self.token is not None or self.malformed == "body"


class Rule(msgspec.Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """One rule. `times` counts down with each match; absent = until cleared."""

    action: Action
    match: Match = msgspec.field(default_factory=Match)
    times: Count | None = None


class Rules:
    """The rules in force. The first that matches decides, for publications and for attempts to push apart."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def replace(self, raw: Any) -> None:
        """Put these rules (decoded JSON) in place of all others; a bad one changes nothing."""
        try:
            rules = msgspec.convert(raw, list[Rule])
        except msgspec.ValidationError as error:
            raise RuleError(f"rules: {error}") from None
        for index, rule in enumerate(rules):
            check(rule.action, f"[{index}].action")
        self._rules = rules

    def shown(self) -> list[Rule]:
        """The rules still in force, with what is left of their `times`."""
        return list(self._rules)

    def action(self, kind: str, enterprise: str, *, at_push: bool) -> Action | None:
        """The action for this notification, if any; uses up one of the rule's `times`."""
        for position, rule in enumerate(self._rules):
            fits = rule.match.type in {None, kind} and rule.match.enterprise in {None, enterprise}
            if not fits or rule.action.at_push != at_push:
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times == 0:
                    del self._rules[position]
            return rule.action
        return None


class Spoilt(msgspec.Struct, frozen=True):
    """What is published in place of a notification: attribute and data."""

    kind: str
    data: str


def check(action: Action, where: str) -> None:
    """Refuse an action that does nothing, or that asks for what cannot be had at once."""
    if action == Action():
        raise RuleError(f"{where}: asks for nothing")
    at_push = msgspec.structs.replace(action, token=None, malformed=None)
    if action.at_push and (at_push != Action() or action.malformed not in {None, "body"}):
        raise RuleError(f"{where}: token and malformed body concern a push, the rest the publication: two rules")
    if action.reorder and action.delay_seconds is not None:
        raise RuleError(f"{where}: reorder and delaySeconds exclude each other")


def spoil(action: Action, kind: str, enterprise: str, resource: Any) -> list[Spoilt]:
    """The publications that this notification becomes, in order; copies included, none when it is dropped."""
    if action.drop:
        return []
    shown = action.type or kind
    versions = [resource]
    if action.unfinished_first and isinstance(resource, dict):
        versions.insert(0, {key: value for key, value in resource.items() if key not in _DONE})
    last = Spoilt(shown, _data(action, enterprise, versions[-1]))
    first = [Spoilt(shown, _data(action, enterprise, version)) for version in versions[:-1]]
    return [*first, *([last] * (1 + (action.copies or 0)))]


def encoded(resource: Any) -> str:
    """A resource as the data of a message."""
    return base64.b64encode(msgspec.json.encode(resource)).decode()


def _data(action: Action, enterprise: str, resource: Any) -> str:
    if action.malformed not in {None, "body"}:
        return _malformed(action.malformed)
    if action.no_data or resource is None:
        return ""
    if isinstance(resource, dict):
        resource = {key: value for key, value in resource.items() if key not in action.without}
    if action.enterprise is not None:
        resource = _renamed(resource, enterprise, action.enterprise)
    return encoded(resource)


def _renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value.removeprefix(old)
    return value


def _malformed(how: str | None) -> str:
    if how == "base64":
        return "%%% this is not base64 %%%"
    raw = {
        "json": b'{"name": "enterprises/',
        "utf8": b'{"name": "\xff\xfe"}',
        "list": b"[1, 2, 3]",
        "large": b'{"name": "' + b"x" * (LARGE - 12) + b'"}',
    }
    return base64.b64encode(raw[how or "json"]).decode()
