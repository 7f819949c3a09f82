"""What an operation of the API states, and the one pipeline that every call of one goes through.

Order of refusals (contract decision 7): route, method and body size are the edge's (http/edge.py); then token,
organization, permission, plan, body and query, entity.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from heliograph.app.access import Access, RateLimiter
from heliograph.app.push_status import PushStatusReader
from heliograph.app.services import Services
from heliograph.domain.devices import Organization, Principal
from heliograph.domain.errors import FeatureNotAllowed, FieldError, InvalidInput, NotFound, NoToken, PermissionMissing
from heliograph.domain.fields import Fields
from heliograph.domain.ids import is_id
from heliograph.domain.permissions import allows
from heliograph.http.answers import Answer, Request
from heliograph.http.filters import read_filters
from heliograph.http.problems import TOO_MANY, UNAVAILABLE, Problem
from heliograph.http.room import NoRoom, Place, Rooms
from heliograph.ports.pages import DeviceFilter, PageQuery
from heliograph.ports.store import UnitOfWork

MAX_DEPTH = 100
MAX_WAIT_S = 30
MAX_LIMIT = 10_000
PAGES, LARGE_PAGES = 8, 2  # that are made at a time; see http/pages.py
_FIRST_PAGE = PageQuery()
MAX_PAGE = 2**53 - 1  # what every JSON reader counts to exactly; past the end a page is empty
_BEARER = re.compile(r"\s*bearer\s+(\S+)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Api:
    """What the operations work with."""

    services: Services
    access: Access
    limiter: RateLimiter
    organizations: RateLimiter
    push_statuses: PushStatusReader
    log: Any
    pages: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PAGES))
    large_pages: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_PAGES))
    rooms: Rooms = field(default_factory=Rooms)


@dataclass(slots=True)
class Call:
    """One authorised call of an operation."""

    api: Api
    request: Request
    principal: Principal
    path: Mapping[str, str]
    query: "Query"
    body: Fields
    work: UnitOfWork
    """Work inside the caller's organization."""
    headers: dict[str, str] = field(default_factory=dict)
    place: Place | None = None
    """What the answer may take of its organization's room."""

    @property
    def organization(self) -> Organization:
        """The organization that the call is bound to."""
        return self.principal.organization

    @property
    def services(self) -> Services:
        """The ports."""
        return self.api.services

    @property
    def source(self) -> str:
        """Who asks, for the history."""
        return f"key:{self.principal.key_id}"

    def id(self, name: str) -> str:
        """A record id from the path, in lower case; a malformed one is an unknown one."""
        text = self.path[name]
        if not is_id(text):
            raise NotFound
        return text.lower()

    async def take_room(self, bytes_: int) -> None:
        """See that the answer may have so many bytes; raises a Problem where others that nobody takes have them."""
        if self.place is not None:
            self.place.leave()
            self.place = None
        try:
            self.place = await self.api.rooms.take(self.organization.id, bytes_)
        except NoRoom:
            raise Problem(503, UNAVAILABLE, "Too many answers wait to be taken", {"Retry-After": "5"}) from None


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Body:
    """How a request body is documented: the name of its schema, the schema, and examples by name."""

    name: str
    schema: Mapping[str, Any]
    examples: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: route, rights, shapes and the function that carries it out.

    `sorts` = wire name → record field for lists; `filters` = those that a list takes (http/filters.py); `waits` = takes
    `?wait=`; `body` documents the request body (it is read field by field); `answer` = the shape of `data`.
    `extension`: ours, not the contract's.
    """

    method: str
    path: str
    id: str
    summary: str
    tag: str
    permission: str
    answer: Any
    handler: Handler
    feature: str | None = None
    body: type[msgspec.Struct] | Body | None = None
    sorts: Mapping[str, str] | None = None
    filters: Sequence[str] = ()
    waits: bool = False
    extension: bool = False
    refusals: tuple[int, ...] = ()


class Query:
    """Query parameters of one call, validated for its operation."""

    def __init__(self, operation: Operation, given: Sequence[tuple[str, str]]) -> None:
        self.errors: list[FieldError] = []
        self.page = _FIRST_PAGE
        self.devices: DeviceFilter | None = None
        self.wait_s = 0
        if not given:
            return
        raw: dict[str, list[str]] = {}
        for name, value in given:
            raw.setdefault(name, []).append(value)
        if operation.sorts is not None:
            sort, descending = self._sort(raw, operation.sorts)
            self.page = PageQuery(
                self._integer(raw, "page", _FIRST_PAGE.page, 1, MAX_PAGE),
                self._integer(raw, "limit", _FIRST_PAGE.limit, 1, MAX_LIMIT),
                sort,
                descending,
            )
        if operation.filters:
            self.devices = read_filters(operation.filters, raw, self.errors)
        if operation.waits:
            self.wait_s = self._integer(raw, "wait", 0, 0, MAX_WAIT_S)

    def _one(self, raw: Mapping[str, list[str]], name: str) -> str | None:
        values = raw.get(name, [])
        if len(values) > 1:
            self.errors.append(FieldError(name, "is given more than once"))
            return None
        return values[0] if values else None

    def _integer(self, raw: Mapping[str, list[str]], name: str, default: int, low: int, high: int) -> int:
        text = self._one(raw, name)
        if text is None:
            return default
        if re.fullmatch(r"[0-9]{1,17}", text) and low <= int(text) <= high:
            return int(text)
        self.errors.append(FieldError(name, f"must be a whole number from {low} to {high}"))
        return default

    def _sort(self, raw: Mapping[str, list[str]], sorts: Mapping[str, str]) -> tuple[str, bool]:
        text = self._one(raw, "sort")
        if not text:
            return _FIRST_PAGE.sort, _FIRST_PAGE.descending
        name, _, direction = text.partition(":")
        if name not in sorts or direction not in ("", "asc", "desc") or text.endswith(":"):
            names = ", ".join(sorts)
            self.errors.append(FieldError("sort", f"must be one of {names}, with :asc or :desc if wanted"))
            return _FIRST_PAGE.sort, _FIRST_PAGE.descending
        return sorts[name], direction == "desc"


def bearer_token(header: str | None) -> str:
    """The token of an Authorization header; raises NoToken."""
    match = _BEARER.fullmatch(header or "")
    if match is None:
        raise NoToken
    return match.group(1)


async def run(api: Api, operation: Operation, request: Request) -> Answer:
    """Authorise, validate, carry out, and wrap the answer in the envelope."""
    path = request.path
    token = bearer_token(request.header(b"authorization"))
    principal = await _authorised(api, operation, token, path.get("organizationId"))
    query = Query(operation, request.query())
    body = Fields(parse_object(request.body) if operation.body is not None else {})
    if query.errors:
        raise InvalidInput(query.errors)
    work = api.services.store.unit_of_work(principal.organization.id)
    call = Call(api, request, principal, path, query, body, work)
    try:
        data = await operation.handler(call)
        if query.wait_s:  # the key may have ended meanwhile
            await api.access.principal(token)
        encoded = ENCODER.encode({"status": True, "data": data})
    except BaseException:
        if call.place is not None:
            call.place.leave()
        raise
    if call.place is not None:
        call.place.shrink(len(encoded))
    return Answer(encoded, headers=call.headers, place=call.place)


ENCODER = msgspec.json.Encoder()


async def _authorised(api: Api, operation: Operation, token: str, organization: str | None) -> Principal:
    principal = await api.access.principal(token)
    own, clock = principal.organization, api.services.clock
    wait_s = api.limiter.wait_s(principal.key_id, clock) or api.organizations.wait_s(own.id, clock)
    if wait_s > 0:
        raise Problem(429, TOO_MANY, "Too many requests", {"Retry-After": str(max(1, round(wait_s + 0.5)))})
    if organization is not None and organization != own.slug and organization.lower() != own.id:
        raise NotFound
    if not allows(principal.permissions, operation.permission):
        raise PermissionMissing
    if operation.feature is not None and not own.allows(operation.feature):
        raise FeatureNotAllowed
    return principal


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object from outside; raises InvalidInput. The depth is checked before anything is decoded."""
    if not raw:
        return {}  # so that the fields that are required are named
    if _too_deep(raw):
        raise InvalidInput.of("", f"is nested deeper than {MAX_DEPTH} levels")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidInput.of("", "the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise InvalidInput.of("", "the body must be a JSON object")
    return value


_IN, _OUT = b"\x01", b"\x02"
_STEPS = bytes.maketrans(b"{[}]", _IN * 2 + _OUT * 2)
_NO_STEPS = bytes(set(range(256)) - set(b'{[}]"'))
_FLATTENED = 8


def _too_deep(raw: bytes) -> bool:
    """Whether JSON is nested too deep. The loops of `bytes` do nearly all of it: this holds up everybody else."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    steps = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_STEPS, _NO_STEPS)
    steps = steps.replace(b'""', b"")  # most texts hold no brackets
    # What stands in the others is no nesting. The end gets what to flatten where it was cut off.
    steps = b"".join(steps.split(b'"')[::2]) + _OUT * _FLATTENED
    for _ in range(_FLATTENED):  # each takes away the innermost level everywhere: all that a broad body has
        steps = steps.replace(_IN + _OUT, b"")
    depth = 0
    for hill in steps.replace(_OUT + _IN, _OUT + b" " + _IN).split(b" "):
        up = hill.count(_IN)
        if depth + up > MAX_DEPTH - _FLATTENED:
            return True
        depth += up - (len(hill) - up)
    return False
