"""The database file of a data directory, and the library that reads it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.cli.rig import Cli

HERE = ("--data-dir", "data")


def test_migrations_to_come_are_told(cli: Cli) -> None:
    Path("data").mkdir()
    sqlite3.connect("data/heliograph.db").close()
    assert cli.ok("db", "status", *HERE)["pending"] >= 1
    assert "to be applied" in cli("db", "status", *HERE).out


def test_a_file_that_is_no_database_is_told(cli: Cli) -> None:
    Path("data").mkdir()
    Path("data/heliograph.db").write_bytes(b"nonsense" * 1000)
    for verb in (["db", "status"], ["org", "list"], ["serve", "all", "--port", "0"]):
        result = cli(*verb, "--data-dir", "data")
        assert (result.code, "heliograph.db is not an SQLite database" in result.err) == (3, True)
        assert result.err.count("\n") == 1


def test_a_library_that_is_too_old_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems of 2021: its statements would fail one by one."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    for verb in (["db", "migrate"], ["org", "create", "acme"], ["serve", "all", "--port", "0"]):
        result = cli(*verb, *HERE)
        assert (result.code, "SQLite 3.34.1" in result.err, "3.35 or newer" in result.err) == (3, True, True)
        assert result.err.count("\n") == 1
    assert not Path("data").exists()
