"""OpenAPI 3.1 from the table of operations and the shapes that they answer with."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from heliograph.http.filters import FILTERS
from heliograph.http.operations import MAX_LIMIT, MAX_PAGE, MAX_WAIT_S, Body, Operation

_MESSAGES = {
    1002: (404, "Route not found"),
    3001: (404, "Entity not found"),
    4001: (401, "Unauthorized"),
    4002: (401, "No auth token"),
    4004: (401, "Invalid Token"),
    5050: (400, "Feature not allowed for you billing plan"),
    5052: (400, "EmmCommand status not Pending"),
    5209: (400, "Invalid input"),
}
_STATUS_TEXT = {400: "Refused", 401: "No token, a bad one, or one without the permission", 404: "Not there"}
_PATH_PARAMETERS = {
    "organizationId": "Id or slug of the organization.",
    "emmDeviceId": "The Android device: platform id, serial number, IMEI, enrollment-specific id or all-platform id.",
    "aosDeviceId": "Id of the AOSP device.",
    "deviceId": "The device's id over all platforms.",
    "emmCommandId": "Id of the command.",
    "aosCommandId": "Id of the command.",
    "pushNotificationId": "Id of the push, as sending it answered.",
}
_QUERY_PARAMETERS = {
    "page": "Which page, from 1.",
    "limit": "How many on a page, of at most 16 MiB together; above that 5209 names a limit for records of that size.",
    "sort": "Field to sort by, with :asc or :desc if wanted.",
    "wait": "Answer as soon as the state is final, or after so many seconds as it then is (extension).",
}
_REF = "#/components/schemas/{name}"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of the API."""
    shapes = [o.answer for o in operations]
    shapes += [o.body for o in operations if o.body is not None and not isinstance(o.body, Body)]
    bodies = {o.body.name: o.body.schema for o in operations if isinstance(o.body, Body)}
    _, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Heliograph",
            "version": version("heliograph"),
            "description": "Commands and push notifications for fleets of managed devices.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearerAuth": []}],
        "paths": paths,
        "components": {
            "schemas": {**components, **bodies, "ErrorEnvelope": _ERROR_ENVELOPE},
            "securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer"}},
        },
    }


_ERROR_ENVELOPE: dict[str, Any] = {
    "type": "object",
    "required": ["status", "error"],
    "properties": {
        "status": {"const": False},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "data": {"type": "object"}},
        },
    },
}


def _schema_of(shape: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([shape], ref_template=_REF)
    return schema


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "x-required-permission": operation.permission,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.feature is not None:
        described["x-required-feature"] = operation.feature
    if operation.extension:
        described["x-extension"] = True
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": _content(operation.body)}}
    return described


def _content(body: Any) -> dict[str, Any]:
    if not isinstance(body, Body):
        return {"schema": _schema_of(body)}
    reference = {"schema": {"$ref": _REF.format(name=body.name)}}
    return reference | ({"examples": dict(body.examples)} if body.examples else {})


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    query: dict[str, dict[str, Any]] = {}
    if operation.sorts is not None:
        names = "|".join(operation.sorts)
        query["page"] = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1}
        query["limit"] = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 25}
        query["sort"] = {"type": "string", "pattern": f"^(({names})(:asc|:desc)?)?$"}
    if operation.waits:
        query["wait"] = {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0}
    meanings = _QUERY_PARAMETERS | {name: FILTERS[name].meaning for name in operation.filters}
    query |= {name: dict(FILTERS[name].schema) for name in operation.filters}
    return found + [
        {"name": name, "in": "query", "description": meanings[name], "schema": schema} for name, schema in query.items()
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    envelope = {
        "type": "object",
        "required": ["status", "data"],
        "properties": {"status": {"const": True}, "data": _schema_of(operation.answer)},
    }
    responses: dict[str, Any] = {
        "200": {"description": "Success", "content": {"application/json": {"schema": envelope}}}
    }
    for code in (4002, 4004, 4001, 3001, *operation.refusals):
        status, message = _MESSAGES[code]
        response = responses.setdefault(str(status), _refusal(status))
        example = {"status": False, "error": {"code": code, "message": message}}
        response["content"]["application/json"]["examples"][str(code)] = {"value": example}
    return responses


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="ErrorEnvelope")}
    content = {"application/json": {"schema": schema, "examples": {}}}
    return {"description": _STATUS_TEXT[status], "content": content}
