"""The OpenAPI document lets a stranger write every call: members, limits, meanings, examples."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from heliograph.app.pushes import KINDS
from heliograph.app.request_command import read_android_request, read_aosp_request
from heliograph.app.verbs import VERBS
from heliograph.domain.catalog import ANDROID_TYPES, AOSP_TYPES
from heliograph.domain.devices import APPS, PLATFORMS
from heliograph.domain.fields import Fields
from heliograph.http.app import OPERATIONS
from heliograph.http.body_schema import schema_read_by
from heliograph.http.command_bodies import ANDROID_BODY, AOSP_BODY
from heliograph.http.openapi import document
from heliograph.http.push import PushSend
from heliograph.http.setup_bodies import BODIES
from tests.http.routes import SETUP, Known, request
from tests.support.client import fields_of
from tests.support.demo import Demo

DOCUMENT = document(OPERATIONS)
CALLS = [(path, method, o) for path, methods in DOCUMENT["paths"].items() for method, o in methods.items()]


def test_every_parameter_and_every_member_of_a_body_has_a_meaning() -> None:
    silent = [(o["operationId"], p["name"]) for _, _, o in CALLS for p in o["parameters"] if not p.get("description")]
    for _, _, operation in CALLS:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {"schema": {}})
        silent += [(operation["operationId"], name) for name in _silent(content["schema"])]
    assert silent == []


def _silent(schema: dict[str, Any]) -> list[str]:
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found = []
    for name, member in schema.get("properties", {}).items():
        found += ([] if member.get("description") else [name]) + _silent(member)
    return found + [name for part in schema.get("anyOf", []) for name in _silent(part)]


def test_a_slug_is_said_to_work() -> None:
    about = {p["description"] for _, _, o in CALLS for p in o["parameters"] if p["name"] == "organizationId"}
    assert about == {"Id or slug of the organization."}


@pytest.mark.parametrize("name", ANDROID_TYPES)
def test_an_android_type_has_an_example_that_is_accepted(name: str) -> None:
    body = ANDROID_BODY.examples[name]["value"]
    assert read_android_request(Fields(body)).type.name == name
    Draft202012Validator(ANDROID_BODY.schema).validate(body)


@pytest.mark.parametrize("name", AOSP_TYPES)
def test_an_aosp_type_has_an_example_that_is_accepted(name: str) -> None:
    body = AOSP_BODY.examples[name]["value"]
    assert read_aosp_request(Fields(body)).type.name == name
    Draft202012Validator(AOSP_BODY.schema).validate(body)


def test_limits_and_choices_of_the_catalog_are_in_the_document() -> None:
    members = ANDROID_BODY.schema["properties"]
    assert members["type"]["enum"] == list(ANDROID_TYPES)
    assert members["newPassword"]["maxLength"] == 256
    assert "LOCK_NOW" in members["resetPasswordFlags"]["items"]["enum"]
    assert members["addEsimParams"]["required"] == ["activationCode"]
    assert (
        members["startLostModeParams"]["properties"]["lostMessage"]["properties"]["defaultMessage"]["maxLength"] == 4096
    )
    [password] = [p for p in AOSP_BODY.schema["properties"]["params"]["anyOf"] if p["title"] == "RESET_PASSWORD"]
    assert password["required"] == ["newPassword"]


def test_what_a_push_may_say() -> None:
    hints = {name: get_args(hint)[0] for name, hint in PushSend.__annotations__.items()}
    assert set(get_args(hints["os"])) == set(PLATFORMS)
    assert set(get_args(hints["app"])) == set(APPS)
    assert set(get_args(hints["type"])) == set(KINDS)


def test_setup_bodies_have_the_members_of_their_verbs() -> None:
    assert {name: set(body.schema["properties"]) for name, body in BODIES.items()} == {
        name: set(verb.members) for name, verb in VERBS.items()
    }


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", [n for n in SETUP if BODIES[n.removeprefix("setup.")].schema.get("required")])
def test_a_setup_body_requires_what_is_marked(demo: Demo, known: Known, operation: str) -> None:
    body = BODIES[operation.removeprefix("setup.")]
    wrong = fields_of(request(operation, demo.api, known, body={}))
    assert set(wrong) == set(body.schema["required"])
    Draft202012Validator(body.schema).validate(body.examples["example"]["value"])


def _read(body: Fields) -> None:
    inner = body.obj("inner", required=True)
    if inner is not None and inner.has("first"):
        inner.text("first", required=True, choices=("a", "b"))
    elif inner is not None:
        inner.text("second", required=True, pattern="x+", meaning="must be x")
    body.number("count", minimum=1, maximum=9)
    body.boolean("flag")
    body.only(("inner", "count", "flag"))


def test_what_is_read_becomes_a_schema() -> None:
    assert schema_read_by(_read) == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "inner": {
                "type": "object",
                "properties": {
                    "first": {"type": "string", "enum": ["a", "b"]},
                    "second": {
                        "type": "string",
                        "maxLength": 256,
                        "pattern": "^(?:x+)$",
                        "description": "must be x",
                    },
                },
            },
            "count": {"type": "number", "minimum": 1, "maximum": 9},
            "flag": {"type": "boolean"},
        },
        "required": ["inner"],
    }
