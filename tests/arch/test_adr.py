"""Decision records are numbered once, say where they stand, and are all in the index."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.arch.files import ROOT

FOLDER = ROOT / "docs/adr"
NAME = re.compile(r"(\d{4})-[a-z0-9]+(-[a-z0-9]+)*\.md")
STATUS = re.compile(
    r"^Status: (proposed|accepted|rejected|superseded by \[\d{4}\]\(\d{4}-[a-z0-9-]+\.md\))$", re.MULTILINE
)
INDEXED = re.compile(r"^\| \[(\d{4})\]\(([^)]+)\) \|", re.MULTILINE)


def records() -> list[Path]:
    return sorted(path for path in FOLDER.glob("*.md") if path.name not in {"README.md", "template.md"})


def test_names_follow_the_pattern() -> None:
    assert [path.name for path in records() if not NAME.fullmatch(path.name)] == []


def test_numbers_are_unique() -> None:
    numbers = Counter(path.name[:4] for path in records())
    assert [number for number, count in numbers.items() if count > 1] == []


def test_status_is_one_that_we_use() -> None:
    assert [path.name for path in records() if len(STATUS.findall(path.read_text())) != 1] == []


def test_titles_carry_the_number() -> None:
    assert [path.name for path in records() if not path.read_text().startswith(f"# {path.name[:4]} ")] == []


def test_index_lists_all() -> None:
    indexed = INDEXED.findall((FOLDER / "README.md").read_text())
    assert sorted(indexed) == [(path.name[:4], path.name) for path in records()]
