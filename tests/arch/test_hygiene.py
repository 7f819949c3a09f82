"""What must never be committed, and what must always be explained."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.arch.files import SRC, committed_files, relative

# In pieces, so that this file does not find itself.
DOT = r"\."
REGISTRY_HOSTS = re.compile(
    "|".join(
        DOT.join(parts)
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("yarnpkg", "com"),
            ("deb", "debian", "org"),
            ("crates", "io"),
            ("proxy", "golang", "org"),
        )
    )
)
UNFINISHED = re.compile("|".join(rf"\b{first}{second}\b" for first, second in (("TO", "DO"), ("FIX", "ME"))))


def findings(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in committed_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:  # a picture
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{relative(path)}:{number} {line.strip()[:100]}"


def without_docstring(path: Path) -> Iterator[str]:
    """Public classes, functions and methods that say nothing about themselves."""
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        for node in ast.iter_child_nodes(nodes.pop()):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                if ast.get_docstring(node) is None:
                    yield f"{relative(path)}:{node.lineno} {node.name}"
                if isinstance(node, ast.ClassDef):
                    nodes.append(node)


def test_no_file_names_a_registry() -> None:
    assert list(findings(REGISTRY_HOSTS)) == []


def test_nothing_is_left_for_later_in_a_comment() -> None:
    assert list(findings(UNFINISHED)) == []


def test_ports_explain_themselves() -> None:
    ports = sorted((SRC / "heliograph/ports").rglob("*.py"))
    assert ports
    assert [finding for path in ports for finding in without_docstring(path)] == []
