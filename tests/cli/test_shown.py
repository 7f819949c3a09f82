"""What answers look like to people: lists, states, settings."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
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


@pytest.mark.parametrize(("platform", "there_is_one"), [("aosp", True), ("toaster", False)])
def test_secrets_are_spoken_of_where_there_are_any(cli: Cli, platform: str, there_is_one: bool) -> None:
    Path("fleet.json").write_text(json.dumps([{"platform": platform}]))
    assert ("Give the agent its secret" in cli("device", "import", "fleet.json", *HERE).err) is there_is_one


def test_settings_are_shown_as_they_are_given(cli: Cli) -> None:
    Path("vapid").write_text("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
    origins = "http://push.example:8080,http://push.example:8081"
    settings = ["vapidPrivateKey=@vapid", "subject=mailto:ops@example.com", f"allowedOrigins={origins}"]
    made = cli.ok("provider", "add", "webpush", *(part for s in settings for part in ("--set", s)), *HERE)
    assert f"allowedOrigins  {origins}\n" in cli("provider", "get", made["id"], *HERE).out


def test_the_doctor_advises_on_what_is_wrong_with_the_database(cli: Cli) -> None:
    with closing(sqlite3.connect("data/heliograph.db")) as database, database:
        database.execute("INSERT INTO schema_migrations VALUES (99, 'later', '', 0)")
    newer = cli("doctor", *HERE)
    assert (newer.code, "Start the newer version" in newer.out, "is it up" in newer.out) == (1, True, False)
    for path in Path("data").glob("heliograph.db*"):
        path.unlink()
    Path("data/heliograph.db").write_text("no database")
    broken = cli("doctor", *HERE)
    assert (broken.code, "--data-dir" in broken.out, "is it up" in broken.out) == (1, True, False)
