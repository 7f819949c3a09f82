"""What answers look like to people: lists, states, settings."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.cli.rig import Cli

HERE = ["--data-dir", "data"]


@pytest.fixture(autouse=True)
def _acme(cli: Cli) -> None:
    cli.ok("org", "create", "acme", *HERE)


def line_of(cli: Cli, key: dict[str, Any]) -> str:
    """The line of a key in the list of all."""
    [line] = [row for row in cli("key", "list", *HERE).out.splitlines() if key["id"] in row]
    return line


def test_a_key_whose_time_is_over_is_not_called_valid(cli: Cli) -> None:
    key = cli.ok("key", "create", "--permission", "*", "--expires", "1h", *HERE)
    assert "valid" in line_of(cli, key)
    with closing(sqlite3.connect("data/heliograph.db")) as database, database:
        database.execute("UPDATE api_keys SET expires_at = 1 WHERE id = ?", (key["id"],))
    assert ("valid" in line_of(cli, key), "expired" in line_of(cli, key)) == (False, True)
