"""What a catalog file states about one command type, and how the outcome of an upstream operation is read.

The catalog (`heliograph.domain.catalog`) holds one file per type; each ends in `TYPE = CommandType(…)`. A channel that
is absent there means "not supported on such a device", answered before anything is stored.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from heliograph.domain.fields import Fields
from heliograph.domain.ladder import Cancelled, Event, Expired, Failed, Reason, Succeeded
from heliograph.domain.management import Limit, Works, works_on

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Members whose value is a secret wherever it stands in free parameters: their names hold one of these, or end so. Case,
# `_`, `-` and the like do not matter. Too many rather than too few: what counts as secret still reaches the device.
SECRET_NAMES = (
    "password", "passwd", "passphrase", "passcode", "pincode", "secret", "token", "credential", "apikey", "privatekey",
    "activationcode", "authorization",
)  # fmt: skip
SECRET_ENDINGS = ("key", "pin", "puk", "psk", "otp", "pwd")
NO_MAPS: Mapping[str, type] = MappingProxyType({})
_NOISE = re.compile(r"[\W_]+")
CANCELLED_CODE = 1  # google.rpc.Code.CANCELLED
DEADLINE_CODE = 4  # google.rpc.Code.DEADLINE_EXCEEDED
WIPE_FLAGS = ("PRESERVE_RESET_PROTECTION_DATA", "WIPE_EXTERNAL_STORAGE", "WIPE_ESIMS")
# Google counts whole seconds of a life, and by a clock of its own.
_CLOCKS_US = 3_000_000
MISSING = "missing"  # our word for the result of an app of which Google says nothing
NO_ERROR_CODES = (None, "", "COMMAND_ERROR_CODE_UNSPECIFIED")


@dataclass(frozen=True, slots=True)
class Params:
    """Validated parameters: `public` may be stored in clear and shown; `secret` is sealed from the first write."""

    public: dict[str, Any] = field(default_factory=dict)
    secret: dict[str, Any] = field(default_factory=dict)


def no_params(_: Fields) -> Params:
    """For types without parameters."""
    return Params()


def no_body(_: Mapping[str, Any]) -> dict[str, Any]:
    """For types whose upstream body is the bare type."""
    return {}


def success(_: Mapping[str, Any]) -> Reason | None:
    """For types of which `done` alone is success."""
    return None


@dataclass(frozen=True, slots=True)
class AmapiForm:
    """How Google's Android Management API takes this type (research: Command in discovery revision 20261104).

    `members`: body members that belong to this type alone. `parse` reads the request body; `encode` builds Google's
    body from public and secret parameters together. `status_member` is the type's own status in the operation's
    metadata, which outranks `done`: `good` means it did what was meant, `waiting` that it is not over; `read_status`
    reads one of another shape, for the parameters that were asked for: the failure, True where it did what was meant,
    False where it says nothing. `unsaid` is what it comes to where nothing but `done` is said, if that is no success.
    `permission` is needed on top of the one to create commands. `works` and `limits` say on which devices it works.
    `ends_record`: Google drops its record of the device once the device has acknowledged. `is_spaced`: it asks for a
    pause between two on one device.
    """

    default_duration_s: int
    members: tuple[str, ...] = ()
    parse: Callable[[Fields], Params] = no_params
    encode: Callable[[Mapping[str, Any]], dict[str, Any]] = no_body
    status_member: str | None = None
    good: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    read_status: Callable[[Mapping[str, Any], Mapping[str, Any]], Reason | bool] | None = None
    unsaid: Callable[[Mapping[str, Any]], Reason | None] = success
    permission: str | None = None
    works: Works = field(default_factory=works_on)
    limits: tuple[Limit, ...] = ()
    ends_record: bool = False
    is_spaced: bool = False


@dataclass(frozen=True, slots=True)
class AgentForm:
    """How our agent takes this type: the parameters go to the device as they were validated."""

    default_duration_s: int
    parse: Callable[[Fields], Params] = no_params


@dataclass(frozen=True, slots=True)
class CommandType:
    """One entry of the catalog. `danger`: it destroys data or ends management, so guards and confirmations apply."""

    name: str
    summary: str
    danger: bool = False
    amapi: AmapiForm | None = None
    agent: AgentForm | None = None


def free_params(fields: Fields) -> Params:
    """Free parameters for the agent: secrets (by member name, at any depth) are kept apart."""
    public, found = _without_secrets(dict(fields.raw))
    return Params(public, dict(fields.raw) if found else {})


def is_secret_member(name: str) -> bool:
    """Whether a member of this name holds a secret."""
    plain = _NOISE.sub("", name).lower()
    if plain.endswith(SECRET_ENDINGS):
        return not plain.endswith("publickey")
    return any(part in plain for part in SECRET_NAMES)


def lacks_secret(command_type: CommandType, params: Mapping[str, Any]) -> bool:
    """Whether a secret that the type cannot do without is missing from the parameters for an agent."""
    if command_type.agent is None:
        return False
    fields = Fields(dict(params))
    command_type.agent.parse(fields)
    return any(is_secret_member(error.path.rpartition(".")[2]) for error in fields.errors)


def _without_secrets(value: Any, maps: Mapping[str, type] = NO_MAPS, path: str = "") -> tuple[Any, bool]:
    if isinstance(value, dict):
        kept, found, entry = {}, False, maps.get(path)
        for name, member in value.items():
            if is_secret_member(name) and (entry is None or not isinstance(member, entry)):
                found = True
                continue
            kept[name], inner = _without_secrets(member, maps, f"{path}.{name}")
            found = found or inner
        return kept, found
    if isinstance(value, list):
        pairs = [_without_secrets(item, maps, f"{path}[]") for item in value]
        return [item for item, _ in pairs], any(found for _, found in pairs)
    return value, False


def without_secrets(value: dict[str, Any], maps: Mapping[str, type] = NO_MAPS) -> dict[str, Any]:
    """A copy of an object from outside with every secret member left out.

    `maps`: path (`.a.b`) → type of the entries of a map there whose keys are data and no names of members, so that they
    do not tell what is a secret.
    """
    kept: dict[str, Any] = _without_secrets(value, maps)[0]
    return kept


def secrets_in(params: Mapping[str, Any]) -> list[str]:
    """The values of secret members, longest first, so that none survives as the rest of another."""
    return sorted(_secrets(params, False), key=len, reverse=True)


def _secrets(value: Any, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from _secrets(member, secret or is_secret_member(str(name)))
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, secret)
    elif secret and isinstance(value, str) and value:
        yield value


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text


def results_of(status: Mapping[str, Any], asked: Iterable[str] = ()) -> dict[str, str]:
    """The result of each app in a status that has one for each, `MISSING` for one that was asked for and has none.
    Empty where there are no results at all; AttributeError where they have another shape.
    """
    results = status.get("results") or {}
    told = {str(app): str(entry.get("clearingResult") or MISSING) for app, entry in results.items()}
    return told and told | {app: MISSING for app in asked if app not in told}


def read_operation(
    command_type: CommandType, operation: Mapping[str, Any], *, params: Mapping[str, Any], now: int, expires_at: int
) -> Event | None:
    """What an upstream operation says: a result, or None while it is open. `params` = what was asked for.

    Order of evidence: the type's own status, `errorCode`, `Operation.error`. `done` without an error is the last
    resort, since failures come as `done` too.
    """
    form = command_type.amapi
    metadata = operation.get("metadata") or {}
    own = metadata.get(form.status_member) if form and form.status_member else None
    own = own if isinstance(own, dict) else {}
    code, error = metadata.get("errorCode"), operation.get("error")
    waits = form is not None and str(own.get("status")) in form.waiting
    failed = code not in NO_ERROR_CODES or isinstance(error, dict)
    if operation.get("done") is not True or (waits and not failed and now < expires_at):
        return None
    facts: dict[str, Any] = {"source": "amapi", "operation": dict(operation)}
    facts["evidence"] = _evidence(operation, own, params)
    word = _own_word(form, own, params) if form and not waits else False
    if isinstance(word, Reason):
        return Failed(reason=word, executed=True, **facts)
    if word:
        return Succeeded(**facts)
    if code not in NO_ERROR_CODES:
        return Failed(reason=Reason(str(code), "the device could not run it"), executed=True, **facts)
    if isinstance(error, dict):
        return _of_error(error, facts, is_late=now >= expires_at - _CLOCKS_US)
    if waits:
        # Google calls it done, but its user has not acted; after its time nobody waits for that any more.
        return Expired(**facts)
    unsaid = form.unsaid(params) if form else None
    return Succeeded(**facts) if unsaid is None else Failed(reason=unsaid, **facts)


def _of_error(error: Mapping[str, Any], facts: dict[str, Any], *, is_late: bool) -> Event:
    if error.get("code") == CANCELLED_CODE:
        return Cancelled(**facts)
    # Google does not say with which code a command expires: an error after its time is taken for that.
    if is_late or error.get("code") == DEADLINE_CODE:
        return Expired(**facts)
    return Failed(reason=Reason(f"RPC_{error.get('code')}", str(error.get("message", ""))), **facts)


def _own_word(form: AmapiForm, own: Mapping[str, Any], params: Mapping[str, Any]) -> Reason | bool:
    """What the type's own status says: a failure, success (True), or nothing (False)."""
    if form.read_status is not None:
        return form.read_status(own, params)
    status = own.get("status")
    if not status or str(status).endswith("_UNSPECIFIED"):
        return False
    return str(status) in form.good or Reason(str(status), "reported by the device")


def _evidence(operation: Mapping[str, Any], own: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: operation[name] for name in ("name", "done", "error") if name in operation}
    said = {
        "errorCode": (operation.get("metadata") or {}).get("errorCode"),
        "status": own.get("status"),
        "apps": results_of(own, params.get("packageNames") or ()),
    }
    return kept | {name: value for name, value in said.items() if value and value not in NO_ERROR_CODES}
