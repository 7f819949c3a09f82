"""The emulator's copy of Google's document, and the routes made from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import googleapiclient
import pytest

from heliograph_lab.amapi.discovery import match

ROOT = Path(__file__).parents[3]


def test_the_copy_has_not_drifted_from_googles_document() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "trim_discovery.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _methods(node: dict[str, Any]) -> list[dict[str, Any]]:
    found = list(node.get("methods", {}).values())
    return found + [method for inner in node.get("resources", {}).values() for method in _methods(inner)]


def _example(method: dict[str, Any]) -> str:
    path: str = "/" + method["path"]
    for name, parameter in method.get("parameters", {}).items():
        if parameter["location"] == "path":
            path = path.replace(f"{{+{name}}}", parameter["pattern"].strip("^$").replace("[^/]+", "x1"))
    return path


def test_every_method_of_googles_document_is_found_by_its_path() -> None:
    source = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "androidmanagement.v1.json"
    methods = _methods(json.loads(source.read_text(encoding="utf-8")))
    assert len(methods) == 36
    for method in methods:
        found = match(method["httpMethod"], _example(method))
        assert found is not None
        assert found[0].id == method["id"]


@pytest.mark.parametrize(
    ("http_method", "path"),
    [
        ("GET", "/v1/enterprises/e/devices/d:issueCommand"),
        ("POST", "/v1/enterprises/e/devices/d"),
        ("POST", "/v1/enterprises/e/devices/d:reboot"),
        ("PUT", "/v1/enterprises/e/devices/d"),
        ("GET", "/v2/enterprises/e"),
        ("GET", "/v1/enterprises/e/devices/d/"),
        ("GET", "/"),
    ],
)
def test_no_such_route(http_method: str, path: str) -> None:
    assert match(http_method, path) is None
