"""The HTTP/2 library can be exchanged: one file of the server knows it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.arch.files import python_sources, relative

LIBRARY = "pyreqwest"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_one_file_imports_it() -> None:
    users = [relative(path) for path in python_sources() if any(n.split(".")[0] == LIBRARY for n in imported(path))]
    assert users == ["src/heliograph/providers/transport/wire.py"]
