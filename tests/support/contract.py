"""Checks every answer against the written contract, our additions to it, the pins, and the server's own OpenAPI.

`Witness` is the hook of an HTTP client: whatever a test asks for, the answer is checked on the way.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.support import pins

FOLDER = Path(__file__).parents[2] / "contract"
_BASE = "https://contract.test/"
_DOCUMENTS = ("openapi.yaml", "extensions.yaml")
_METHODS = ("get", "post", "put", "delete", "patch")
_PLAIN = ("text/plain", "text/html")
Json = dict[str, Any]


@functools.cache
def document(name: str) -> Json:
    """A contract file."""
    loaded: Json = yaml.safe_load((FOLDER / name).read_text())
    return loaded


@dataclass(frozen=True)
class Operation:
    """One operation of a document."""

    document: str
    path: str
    method: str
    id: str
    body: Json

    @property
    def permission(self) -> str | None:
        """What the document says a key needs."""
        found: str | None = self.body.get("x-required-permission")
        return found


def operations_of(name: str, loaded: Json) -> Iterator[Operation]:
    """All operations of an OpenAPI document."""
    for path, item in loaded["paths"].items():
        for method in _METHODS:
            if method in item:
                yield Operation(name, path, method.upper(), item[method]["operationId"], item[method])


@functools.cache
def operations() -> dict[str, Operation]:
    """The contract's operations and our own, by id."""
    return {found.id: found for name in _DOCUMENTS for found in operations_of(name, document(name))}


def pattern_of(path: str) -> re.Pattern[str]:
    """What a path template fits."""
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(path)))


def _parts(path: str) -> list[str]:
    return re.split(r"(\{\w+\})", path)


def operation_at(method: str, path: str) -> Operation | None:
    """The operation that a request reaches. Templates without parameters win."""
    plain = re.sub("/+", "/", path).rstrip("/") or "/"
    fits = [o for o in operations().values() if o.method == method and pattern_of(o.path).fullmatch(plain)]
    return min(fits, key=lambda o: o.path.count("{"), default=None)


class Schemas:
    """Validators for places in the contract, in our additions and in the server's own document."""

    def __init__(self, served: Json) -> None:
        named = {**{name: document(name) for name in _DOCUMENTS}, "served.json": served}
        resources = [(_BASE + name, DRAFT202012.create_resource(contents)) for name, contents in named.items()]
        self._registry: Registry[Any] = Registry().with_resources(resources)
        self._validators: dict[str, Draft202012Validator] = {}

    def check(self, name: str, schema: Mapping[str, Any], value: Any) -> None:
        """Raise AssertionError where the value does not fit; `name` says which schema it is."""
        validator = self._validators.get(name)
        if validator is None:
            # The base makes relative references work.
            rooted = {"$id": f"{_BASE}{name}", **schema}
            validator = self._validators[name] = Draft202012Validator(rooted, registry=self._registry)
        faults = sorted(validator.iter_errors(value), key=lambda fault: list(fault.absolute_path))
        shown = [f"{'/'.join(map(str, fault.absolute_path))}: {fault.message[:500]}" for fault in faults]
        assert not shown, f"{name}: {shown}\nin {str(value)[:2000]}"

    def check_answer(self, file: str, operation: Operation, status: int, value: Any) -> bool:
        """Against what a document says of an answer with this status; False where it says nothing."""
        for key in (str(status), "default"):
            if key in operation.body["responses"]:
                place = "/".join(_pointer(p) for p in ("paths", operation.path, operation.method.lower(), "responses"))
                response = operation.body["responses"][key]
                at = response.get("$ref", f"#/{place}/{key}")
                at += "/content/application~1json/schema"
                self.check(f"checks/{file}/{operation.id}/{key}", {"$ref": f"{_BASE}{file}{at}"}, value)
                return True
        return False


def _pointer(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


class Witness:
    """Sees every answer of a client; counts what it has seen by operation, status and code."""

    def __init__(self, served: Json) -> None:
        self._schemas = Schemas(served)
        self._served = {found.id: found for found in operations_of("served.json", served)}
        self.seen: Counter[tuple[str, int, int]] = Counter()

    def __call__(self, response: httpx2.Response) -> None:
        """Check one answer."""
        assert response.headers.get("x-request-id"), "an answer without X-Request-Id"
        method, path = response.request.method, response.request.url.path
        if method == "HEAD":
            assert response.content == b"", "HEAD answered with a body"
            return
        operation = operation_at(method, path)
        kind = response.headers["content-type"]
        if operation is not None and kind.partition(";")[0] in _PLAIN and response.status_code == 200:
            self.seen[operation.id, 200, 0] += 1
            return
        assert kind == "application/json; charset=utf-8", kind
        value = response.json()
        if path.startswith("/agent/") and operation is not None:
            self._schemas.check_answer("extensions.yaml", operation, response.status_code, value)
            self.seen[operation.id, response.status_code, 0] += 1
            return
        if response.status_code == 200:
            assert operation is not None, f"200 from {path}, which no document knows"
            self._success(operation, value)
        else:
            self._refusal(operation, response.status_code, value)

    def _success(self, operation: Operation, value: Any) -> None:
        assert self._schemas.check_answer(operation.document, operation, 200, value)
        pinned = pins.answer(operation.id)
        if pinned is not None:
            self._schemas.check(f"pins/{operation.id}", _rebased(pinned), value)
        if operation.id in self._served:
            assert self._schemas.check_answer("served.json", self._served[operation.id], 200, value)
        self.seen[operation.id, 200, 0] += 1

    def _refusal(self, operation: Operation | None, status: int, value: Any) -> None:
        if operation is not None and operation.id == "ready":
            assert self._schemas.check_answer(operation.document, operation, status, value)
            return
        reference = {"$ref": f"{_BASE}extensions.yaml#/components/schemas/Refusal"}
        self._schemas.check("checks/refusal", reference, value)
        code = value["error"]["code"]
        assert (status, code) in STATUSES, (status, code)
        if operation is None:
            assert code in (1000, 1002, 1003, 5213), f"{code} from a route that does not exist"
            return
        self._schemas.check_answer(operation.document, operation, status, value)
        if code not in (1000, 1002, 1003, 4029, 5213) and operation.id in self._served:
            self._is_announced(self._served[operation.id], status, code, value)
        self.seen[operation.id, status, code] += 1

    def _is_announced(self, operation: Operation, status: int, code: int, value: Any) -> None:
        """The server's own document must show every code that an operation answers."""
        assert self._schemas.check_answer("served.json", operation, status, value), f"{operation.id}: no {status}"
        examples = operation.body["responses"][str(status)]["content"]["application/json"]["examples"]
        codes = {example["value"]["error"]["code"] for example in examples.values()}
        assert code in codes, f"{operation.id} answers {code}, its document shows {codes}"


STATUSES = {
    (404, 1002),
    (405, 1002),
    (413, 5213),
    (401, 4002),
    (401, 4004),
    (404, 3001),
    (401, 4001),
    (400, 5050),
    (400, 5209),
    (400, 5052),
    (400, 5173),
    (429, 4029),
    (500, 1000),
    (503, 1003),
}


def _rebased(schema: Any) -> Any:
    """The pins with their references made absolute."""
    if isinstance(schema, dict):
        return {
            name: _BASE + value if name == "$ref" and not value.startswith(("#", "http")) else _rebased(value)
            for name, value in schema.items()
        }
    return [_rebased(item) for item in schema] if isinstance(schema, list) else schema
