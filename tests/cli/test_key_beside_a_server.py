"""The secret key is not exchanged under a server that has it: on PostgreSQL no lock on a directory keeps them apart."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.cli.rig import outside, serving
from tests.support.demo import new_database


@pytest.mark.parametrize("verb", ["rotate-key", "forget-secrets"])
def test_it_is_refused_until_the_last_server_has_ended(
    verb: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    present, other = (base64.b64encode(letter * 32).decode() for letter in (b"p", b"o"))
    with new_database("postgres", request) as database:
        assert database is not None
        where = ["--data-dir", "data", "--database", database]
        env = {"HELIOGRAPH_SECRET_KEY": present}
        mine = env | {"HELIOGRAPH_NEW_SECRET_KEY": other}
        if verb == "forget-secrets":
            mine = {"HELIOGRAPH_SECRET_KEY": other}
        outside("org", "create", "acme", *where, folder=tmp_path, **env)
        with serving(tmp_path, "serve", "all", "--port", 0, *where, **env):
            outside("provider", "add", "pushy", "--set", "apiKey=abc", *where, folder=tmp_path, **env)
            refused = outside("db", verb, "--yes", *where, folder=tmp_path, **mine)
            assert (refused.code, "a server works on this database" in refused.err) == (6, True)
            assert "process " in refused.err
            assert outside("org", "list", *where, folder=tmp_path, **env).code == 0  # its key is the database's
        done = outside("db", verb, "--yes", *where, folder=tmp_path, **mine)
        assert (done.code, done.err.count("Traceback")) == (0, 0)
        assert outside("org", "list", *where, folder=tmp_path, HELIOGRAPH_SECRET_KEY=other).code == 0
