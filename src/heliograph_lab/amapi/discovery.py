"""Routes and message schemas, read from the trimmed copy of Google's discovery document beside this file.

`scripts/trim_discovery.py` makes that copy from google-api-python-client (Apache-2.0); a test fails when they drift.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import msgspec


class Parameter(msgspec.Struct, frozen=True):
    """A parameter in the path or in the query."""

    location: str
    type: str
    format: str | None = None
    enum: tuple[str, ...] = ()
    pattern: str | None = None
    repeated: bool = False
    required: bool = False


class Reference(msgspec.Struct, frozen=True):
    """Points to a schema."""

    ref: str = msgspec.field(name="$ref")


class Method(msgspec.Struct, frozen=True, rename="camel"):
    """One method of the API."""

    id: str
    http_method: str
    path: str
    parameters: dict[str, Parameter]
    request: Reference | None = None
    response: Reference | None = None


class Schema(msgspec.Struct, frozen=True, rename="camel"):
    """A message, or the type of one of its fields."""

    type: str = ""
    ref: str | None = msgspec.field(default=None, name="$ref")
    format: str | None = None
    enum: tuple[str, ...] = ()
    items: "Schema | None" = None
    properties: dict[str, "Schema"] = {}
    additional_properties: "Schema | None" = None
    read_only: bool = False


class _Resource(msgspec.Struct, frozen=True):
    methods: dict[str, Method] = {}
    resources: dict[str, "_Resource"] = {}


class _Document(msgspec.Struct, frozen=True):
    revision: str
    parameters: dict[str, Parameter]
    resources: dict[str, _Resource]
    schemas: dict[str, Schema]


class Route(msgspec.Struct, frozen=True):
    """A method with its path as a pattern and the custom verb (`:cancel`), which is matched apart."""

    method: Method
    pattern: re.Pattern[str]
    verb: str


_DOCUMENT = msgspec.json.decode(files(__package__).joinpath("discovery.json").read_bytes(), type=_Document)
REVISION = _DOCUMENT.revision
SCHEMAS = _DOCUMENT.schemas
COMMON_PARAMETERS = _DOCUMENT.parameters


def match(http_method: str, path: str) -> tuple[Method, dict[str, str]] | None:
    """The method behind a decoded path, and the path's parameters; None when Google has no such route."""
    head, slash, last = path.lstrip("/").rpartition("/")
    # `[^/]+` in Google's patterns matches a colon too, so the verb has to go first: a GET on
    # devices/D:issueCommand would otherwise read a device of that name.
    tail, _, verb = last.partition(":")
    bare = f"{head}{slash}{tail}"
    for route in _routes():
        if route.method.http_method == http_method and route.verb == verb:
            found = route.pattern.fullmatch(bare)
            if found is not None:
                return route.method, found.groupdict()
    return None


def methods() -> list[Method]:
    """Every method of the document."""
    return list(_methods(_DOCUMENT.resources))


@cache
def field_names(schema: str) -> dict[str, str]:
    """Every accepted spelling of a message's fields (lowerCamelCase and snake_case) -> its JSON name."""
    names = SCHEMAS[schema].properties
    return {snake(name): name for name in names} | {name: name for name in names}


@cache
def snake(name: str) -> str:
    """The field's name in the protocol buffer, which is what Google's messages show."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


@cache
def _routes() -> tuple[Route, ...]:
    return tuple(_route(method) for method in _methods(_DOCUMENT.resources))


def _methods(resources: dict[str, _Resource]) -> Iterator[Method]:
    for resource in resources.values():
        yield from resource.methods.values()
        yield from _methods(resource.resources)


def _route(method: Method) -> Route:
    template, _, verb = method.path.partition(":")
    pattern = ""
    for literal, name in re.findall(r"([^{]*)(?:\{\+?(\w+)\})?", template):
        pattern += re.escape(literal)
        if name:
            inner = (method.parameters[name].pattern or "^[^/]+$").removeprefix("^").removesuffix("$")
            pattern += f"(?P<{name}>{inner})"
    return Route(method, re.compile(pattern), verb)
