"""Files and functions stay short enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.arch.files import python_sources, relative

FILE_LINES = 400
FUNCTION_LINES = 60


def long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{relative(path)}:{node.lineno} {node.name}: {lines} lines"


def test_files_are_short() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in python_sources()}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_are_short() -> None:
    assert [finding for path in python_sources() for finding in long_functions(path)] == []
