"""The documentation says what the code says: pictures and tables are generated from it, and nothing is left out."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliograph.cli.exits import ExitCode
from heliograph.domain.permissions import FEATURES, PERMISSIONS
from heliograph.http import problems
from heliograph.http.metrics import REGISTRY
from heliograph.settings import Settings
from tests.arch.files import ROOT
from tests.live.target import OPTIONAL, REQUIRED
from tests.support.mosquitto import ACL

DOCS = ROOT / "docs"
SCRIPT = ROOT / "scripts/generate_docs.py"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows(text: str) -> list[list[str]]:
    """The cells of every table row on a page."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def error_codes() -> set[int]:
    own = {problems.UNKNOWN_ROUTE, problems.UNEXPECTED, problems.TOO_LARGE, problems.TOO_MANY}
    return own | {code for _, code in problems.PROBLEMS.values()}


def test_pictures_and_generated_tables_match_the_code() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_setting_is_documented_with_its_default(name: str) -> None:
    default = Settings.model_fields[name].default
    shown = "none" if default is None or default == "" else f"`{default}`"
    documented = {cells[0]: cells[1] for cells in rows(page("operations.md"))}
    assert documented.get(f"`HELIOGRAPH_{name.upper()}`") == shown


def test_no_setting_is_documented_that_does_not_exist() -> None:
    settings = {f"HELIOGRAPH_{name.upper()}" for name in Settings.model_fields}
    for_commands = {
        "HELIOGRAPH_URL",
        "HELIOGRAPH_API_KEY",
        "HELIOGRAPH_ORG",
        "HELIOGRAPH_LAB_URL",
        "HELIOGRAPH_NEW_SECRET_KEY",
    }
    texts = "".join(path.read_text() for path in (ROOT / "README.md", *DOCS.glob("*.md")))
    of_agents = {"HELIOGRAPH_AGENT_SECRET", "HELIOGRAPH_AGENT_BROKER_PASSWORD"}
    of_benchmarks = {"HELIOGRAPH_BENCH_SYGNAL"}
    named = set(re.findall(r"HELIOGRAPH_[A-Z_]+", texts)) - of_agents - of_benchmarks
    assert named - settings - for_commands - REQUIRED.keys() - OPTIONAL.keys() == set()


@pytest.mark.parametrize("code", sorted(ExitCode))
def test_exit_code_is_documented(code: ExitCode) -> None:
    assert str(int(code)) in {cells[0] for cells in rows(page("cli.md"))}


@pytest.mark.parametrize("metric", sorted(metric.name for metric in REGISTRY.collect()))
def test_metric_is_documented(metric: str) -> None:
    assert metric in page("operations.md")


@pytest.mark.parametrize("code", sorted(error_codes()))
def test_error_code_is_documented(code: int) -> None:
    statuses = {status for status, known in problems.PROBLEMS.values() if known == code}
    documented = {cells[0]: cells[1] for cells in rows(page("api.md"))}
    assert str(code) in documented
    assert all(str(status) in documented[str(code)] for status in statuses)


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_permission_is_documented(permission: str) -> None:
    assert f"`{permission}`" in page("operations.md")


@pytest.mark.parametrize("feature", FEATURES)
def test_feature_is_documented(feature: str) -> None:
    assert f"`{feature}`" in page("concepts.md")


def test_the_brokers_list_is_the_one_that_the_tests_use() -> None:
    assert f"```text\n{ACL}```" in page("operations.md")


def broken_links(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", path.read_text()):
        if not (path.parent / target).exists() and "NNNN" not in target:
            yield f"{path.relative_to(ROOT)}: {target}"


def test_links_inside_the_documentation_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    assert [link for path in pages for link in broken_links(path)] == []
