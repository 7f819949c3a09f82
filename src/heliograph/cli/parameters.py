"""A command's type and parameters as people give them, and as each platform's route takes them."""

import json
import sys
from typing import Any

from heliograph.app.request_command import read_android_request, read_aosp_request
from heliograph.cli.exits import usage
from heliograph.cli.options import literal_or_source, seconds
from heliograph.domain.catalog import TYPES
from heliograph.domain.command_types import CommandType, is_secret_member
from heliograph.domain.errors import FieldError, InvalidInput
from heliograph.domain.fields import Fields
from heliograph.domain.permissions import BY_NAME_ONLY

Json = dict[str, Any]


def type_name(text: str) -> str:
    """`reset-password` and `RESET_PASSWORD` are the same."""
    return text.strip().upper().replace("-", "_")


def is_dangerous(name: str) -> bool:
    """Whether a type destroys something."""
    return TYPES[name].danger


def check_body(platform: str, body: Json) -> None:
    """What the server would refuse is refused here, before anybody is asked to confirm it. Raises Failure."""
    try:
        if platform == "android":
            read_android_request(Fields(body), BY_NAME_ONLY)  # what the key may do, the server knows
        else:
            read_aosp_request(Fields(body))
    except InvalidInput as error:
        raise usage(str(error)) from None


def read_params(given: list[str], document: str | None) -> Json:
    """Parameters from `--params JSON` and, on top of it, `--param`:

    `name=text`, `name=@FILE`, `name:=JSON`; `outer.inner=text` reaches inside; a name given twice makes a list.
    """
    params = _document(document)
    seen: set[str] = set()
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip(":"):
            raise usage("--param: say NAME=VALUE, NAME=@FILE or NAME:=JSON")
        path = name.removesuffix(":")
        _put(params, path, _value(path, value, is_json=name.endswith(":")), again=path in seen)
        seen.add(path)
    return params


def _document(text: str | None) -> Json:
    if text is None:
        return {}
    try:
        value = json.loads(literal_or_source(text, "--params"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise usage("--params: must be a JSON object, or @FILE with one")
    return value


def _value(name: str, text: str, *, is_json: bool) -> Any:
    if not is_json:
        if not text.startswith("@") and is_secret_member(name.rpartition(".")[2]) and sys.stderr.isatty():
            sys.stderr.write(f"Others on this machine can see {name} on the command line: better {name}=@FILE\n")
        return literal_or_source(text, f"--param {name}")
    try:
        return json.loads(text)
    except ValueError:
        raise usage(f"--param {name}: what follows := must be JSON") from None


def _put(params: Json, path: str, value: Any, *, again: bool) -> None:
    *outer, last = path.split(".")
    inner: Any = params
    for name in outer:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise usage(f"--param {path}: {name} has a value of its own already")
    if again:
        before = inner[last]
        value = [*before, value] if isinstance(before, list) else [before, value]
    inner[last] = value


def body_for(platform: str, name: str, params: Json, duration: str | None) -> Json:
    """The request body of a platform's route."""
    body: Json
    if platform == "android":
        body = {"type": name, **_android(name, params)}
        if duration is not None:
            body["duration"] = f"{_life(duration):.9f}".rstrip("0").rstrip(".") + "s"
        return body
    body = {"command": name, "params": _listed(params, _agent_errors(name, params))}
    if duration is not None:
        span = _life(duration)
        body["duration"] = int(span) if span.is_integer() else span
    return body


def _life(text: str) -> float:
    span = seconds(text, "--duration")
    if span <= 0:
        raise usage("--duration: must be more than 0; without it the type's own default counts")
    return span


def _android(name: str, params: Json) -> Json:
    """Flat parameters belong into the type's own member, unless they stand in it already."""
    entry = TYPES.get(name)
    members = entry.amapi.members if entry is not None and entry.amapi is not None else ()
    if len(members) != 1 or members[0] in params:
        return _listed(params, _errors(entry, params))
    member = members[0]
    if not params:
        return {member: {}}
    errors = _errors(entry, {member: params})
    prefix = f"{member}."
    return {member: _listed(params, [FieldError(e.path.removeprefix(prefix), e.reason) for e in errors])}


def _errors(entry: CommandType | None, body: Json) -> list[FieldError]:
    if entry is None or entry.amapi is None:
        return []
    fields = Fields(body)
    entry.amapi.parse(fields)
    return fields.errors


def _agent_errors(name: str, params: Json) -> list[FieldError]:
    entry = TYPES.get(name)
    if entry is None or entry.agent is None:
        return []
    fields = Fields(params)
    try:
        entry.agent.parse(fields)
    except InvalidInput as error:
        return error.fields
    return fields.errors


def _listed(params: Json, errors: list[FieldError]) -> Json:
    """One value where the catalog wants a list is a list of one: `--param packageNames=com.example`."""
    single = {e.path for e in errors if e.reason.startswith("must be a list")}
    return {name: [value] if name in single and isinstance(value, str) else value for name, value in params.items()}
