from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.cli.rig import Cli, Site, outside, process, serving, until


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing of the outside steers a test, and nothing of a test (logging to its stderr) outlives it."""
    for name in [name for name in os.environ if name.startswith("HELIOGRAPH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests that only look on, or add what nobody else looks at."""
    folder = tmp_path_factory.mktemp("site")
    data_dir = folder / "data"

    def ok(*arguments: object) -> Any:
        result = outside(*arguments, "--data-dir", data_dir, "--json", folder=folder)
        assert result.code == 0, result.err
        return result.json

    with serving(folder, "serve", "all", "--port", "0", "--data-dir", data_dir) as ready:
        organization = ok("org", "create", "acme")
        key = ok("key", "create", "--permission", "*,operator.*,mdm.android.command.wipe", "--name", "tests")
        ok("enterprise", "add", "enterprises/LC0test")
        kiosk, shelf, phone, signage = (
            ok("device", "add", "--platform", platform, "--name", name, "--serial", serial)
            for name, platform, serial in (
                ("kiosk", "aosp", "K1"),
                ("shelf", "aosp", "S1"),
                ("phone", "android", "P1"),
                ("signage", "package", "G1"),
            )
        )
        where = ["--server", ready["baseUrl"], "--state-dir", folder / "agent", "--simulate"]
        with process(folder, "agent", "run", *where, HELIOGRAPH_AGENT_SECRET=kiosk["agentSecret"]):
            made = Site(data_dir, ready["baseUrl"], organization, key, kiosk, shelf, phone, signage)
            until(lambda: _has_agent(made, folder), "the agent did not register")
            yield made


def _has_agent(site: Site, folder: Path) -> bool:
    sent = outside("push", "send", site.kiosk["id"], "--body", "there?", *site.http, "--json", folder=folder)
    return sent.code == 0
