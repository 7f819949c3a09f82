"""The page on the lab names everything that can go wrong with a notification, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from heliograph_lab.pubsub.chaos import Action, Malformed
from heliograph_lab.pubsub.keys import TokenFault

PAGE = (Path(__file__).parents[3] / "docs/lab.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the first table below this heading of the page, by their first cell."""
    lines = PAGE.partition(f"{heading} |")[2].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in _until_blank(lines)]
    return {row[0].strip("` "): row[1:] for row in rows}


def _until_blank(lines: list[str]) -> list[str]:
    return lines[: lines.index("")]


def test_actions() -> None:
    assert set(table("| Member of `action`")) == {field.encode_name for field in msgspec.structs.fields(Action)}


@pytest.mark.parametrize(("member", "values"), [("token", TokenFault), ("malformed", Malformed)])
def test_values(member: str, values: Any) -> None:
    (text,) = table("| Member of `action`")[member]
    assert set(re.findall(r"`(\w+)`", text)) - {"email_verified"} == set(get_args(values))
