"""Make the emulator's copy of Google's discovery document of the Android Management API.

    python scripts/trim_discovery.py            write src/heliograph_lab/amapi/discovery.json
    python scripts/trim_discovery.py --check    exit 1 when that file is not what this would write

The source is the document inside google-api-python-client (Apache-2.0), a development dependency. All routes are kept,
and the schemas of enterprises, sign-up URLs, devices, operations and enrollment tokens; prose is dropped. One line
per schema and per method, sorted, so that a new revision reads well as a diff.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import googleapiclient

SOURCE = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "androidmanagement.v1.json"
TARGET = Path(__file__).parents[1] / "src" / "heliograph_lab" / "amapi" / "discovery.json"
HEAD = ("id", "name", "revision", "rootUrl", "servicePath", "version")
# Named by prose only, so no reference leads there.
EXTRA_ROOTS = ("IssueCommandResponse", "Status")
RESOURCES_WITH_SCHEMAS = ("enterprises", "devices", "operations", "enrollmentTokens", "signupUrls")
PARAMETER_KEYS = ("enum", "format", "location", "pattern", "repeated", "required", "type")
PROSE = ("description", "enumDescriptions", "enumDeprecated", "id", "deprecated", "default", "annotations")

Json = dict[str, Any]


def trim(document: Json) -> Json:
    """The part of the document that the emulator runs on."""
    roots = [*EXTRA_ROOTS]
    resources = _resources(document["resources"], roots)
    return {
        **{key: document[key] for key in HEAD},
        "parameters": {name: _parameter(value) for name, value in document["parameters"].items()},
        "resources": resources,
        "schemas": _closure(document["schemas"], roots),
    }


def _resources(resources: Json, roots: list[str]) -> Json:
    trimmed: Json = {}
    for name, resource in resources.items():
        part: Json = {}
        if "methods" in resource:
            part["methods"] = {key: _method(method) for key, method in resource["methods"].items()}
        if name in RESOURCES_WITH_SCHEMAS:
            ends = [
                method.get(end) for method in resource.get("methods", {}).values() for end in ("request", "response")
            ]
            roots += [end["$ref"] for end in ends if end]
        if "resources" in resource:
            part["resources"] = _resources(resource["resources"], roots)
        trimmed[name] = part
    return trimmed


def _method(method: Json) -> Json:
    kept: Json = {key: method[key] for key in ("httpMethod", "id", "path", "request", "response") if key in method}
    kept["parameters"] = {name: _parameter(value) for name, value in method.get("parameters", {}).items()}
    return kept


def _parameter(parameter: Json) -> Json:
    return {key: parameter[key] for key in PARAMETER_KEYS if key in parameter}


def _closure(schemas: Json, roots: list[str]) -> Json:
    kept: Json = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = _without_prose(schemas[name])
            waiting += _references(kept[name])
    return kept


def _without_prose(schema: Json) -> Json:
    trimmed: Json = {}
    for key, value in schema.items():
        if key == "properties":  # here the keys are names of fields, "description" and "id" among them
            trimmed[key] = {name: _without_prose(field) for name, field in value.items()}
        elif key not in PROSE:
            trimmed[key] = _without_prose(value) if isinstance(value, dict) else value
    return trimmed


def _references(node: Any) -> list[str]:
    if not isinstance(node, dict):
        return []
    found = [value for key, value in node.items() if key == "$ref"]
    return found + [reference for value in node.values() for reference in _references(value)]


def dump(document: Json) -> str:
    """The document as text: one line per schema, per method and per common parameter."""
    return _dump(document, "") + "\n"


def _dump(node: Any, indent: str, *, flat: bool = False) -> str:
    if flat or not isinstance(node, dict) or "path" in node or not any(isinstance(v, dict) for v in node.values()):
        return json.dumps(node, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    below = indent + " "
    lines = [
        f"{below}{json.dumps(key)}: {_dump(value, below, flat=_is_leaf(key, value))}"
        for key, value in sorted(node.items())
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _is_leaf(key: str, value: Any) -> bool:
    # Every schema and every method stays on its own line.
    return isinstance(value, dict) and (key[:1].isupper() or "path" in value or "location" in value)


def main() -> int:
    """Write the copy, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    arguments = parser.parse_args()
    wanted = dump(trim(json.loads(SOURCE.read_text(encoding="utf-8"))))
    if not arguments.check:
        TARGET.write_text(wanted, encoding="utf-8")
        print(f"wrote {TARGET.name}: {len(wanted)} bytes")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{TARGET.name} differs from Google's document: run python scripts/trim_discovery.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
