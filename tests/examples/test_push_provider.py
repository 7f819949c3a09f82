"""examples/push-provider: found through its entry point, and held to the suite that every provider is held to.

It is installed into a folder of the test alone, so the environment stays as it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from heliograph.providers import GROUP
from tests.arch.files import ROOT

EXAMPLE = ROOT / "examples/push-provider"
SUITE = "tests/providers/test_every_provider.py"


def run(*command: str | Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(folder: Path) -> Path:
    """The plug-in as an installer unpacks it, with what names its entry points."""
    build = ("pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation")
    run(sys.executable, "-m", "uv", *build, "--target", folder / "site", EXAMPLE, UV_CACHE_DIR=str(folder / "cache"))
    return folder / "site"


def test_it_is_found_and_passes_the_contract_suite(tmp_path: Path) -> None:
    path = os.pathsep.join([str(installed(tmp_path)), str(EXAMPLE)])
    options = ("-v", "-p", "no:cacheprovider", "-k", "webhook")
    said = run(sys.executable, "-m", "pytest", *options, SUITE, EXAMPLE / "test_webhook.py", PYTHONPATH=path)
    demands = re.findall(
        r"@(?:every_plugin|with_and_without_tokens)\n(?:@.*\n)*(?:async )?def (test_\w+)", (ROOT / SUITE).read_text()
    )
    passed = re.findall(r"::(test_\w+)(?:\[.*\])? PASSED", said)
    assert demands
    assert {*demands, "test_it_is_found_where_it_is_installed", "test_answers"} == set(passed), said


def test_it_has_left_nothing_behind() -> None:
    assert "webhook" not in {entry.name for entry in entry_points(group=GROUP)}
