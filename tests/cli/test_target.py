"""Where a command goes: flags, then the environment, then ./var."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heliograph.cli.exits import Failure
from heliograph.cli.options import Remote, Setup
from heliograph.cli.target import Http, OnDatabase, for_api, for_setup

KEY = "hlg_secret"
HTTP = Http("http://a", KEY)
DEMO = {"baseUrl": "http://demo", "apiKey": "hlg_demo", "organization": {"slug": "demo"}}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def set_http(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HELIOGRAPH_URL", "http://a/")
    environment.setenv("HELIOGRAPH_API_KEY", KEY)


def demo(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    (folder / "demo.json").write_text(json.dumps({**DEMO, **changes}))
    return folder


def test_set_up_goes_where_the_flags_say() -> None:
    assert for_setup(Setup(data_dir=Path("d"), org="o")) == OnDatabase(Path("d"), None, "o")
    assert for_setup(Setup(database="postgresql://x")) == OnDatabase(Path("var"), "postgresql://x")
    assert for_setup(Setup(url="http://a", api_key=KEY)) == HTTP


def test_set_up_goes_where_the_environment_says(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HELIOGRAPH_DATA_DIR", "d")
    environment.setenv("HELIOGRAPH_DATABASE", "postgresql://x")
    environment.setenv("HELIOGRAPH_ORG", "o")
    assert for_setup(Setup()) == OnDatabase(Path("d"), "postgresql://x", "o")
    set_http(environment)
    assert for_setup(Setup()) == Http("http://a", KEY, "o")


def test_flags_beat_the_environment(environment: pytest.MonkeyPatch) -> None:
    set_http(environment)
    assert for_setup(Setup(data_dir=Path("d"))) == OnDatabase(Path("d"), None)
    assert for_setup(Setup(url="http://b")) == Http("http://b", KEY)
    assert for_setup(Setup(api_key="hlg_other", org="o")) == Http("http://a", "hlg_other", "o")
    assert for_api(Remote(url="http://b", api_key="hlg_other")) == Http("http://b", "hlg_other")
    assert for_api(Remote(data_dir=demo(Path("d")))) == Http("http://demo", "hlg_demo", "demo")


def test_set_up_finds_the_database_in_var() -> None:
    with pytest.raises(Failure, match="nothing says where"):
        for_setup(Setup())
    Path("var").mkdir()
    with pytest.raises(Failure, match="nothing says where"):
        for_setup(Setup())
    Path("var/heliograph.db").touch()
    assert for_setup(Setup()) == OnDatabase(Path("var"), None)


def test_calls_find_the_demo_in_var() -> None:
    with pytest.raises(Failure, match="nothing says which server"):
        for_api(Remote())
    demo(Path("var"))
    assert for_api(Remote()) == Http("http://demo", "hlg_demo", "demo")
    assert for_api(Remote(api_key=KEY, org="o")) == Http("http://demo", KEY, "o")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Setup(url="http://a", data_dir=Path("d")), "either"),
        (Setup(api_key=KEY, database="postgresql://x"), "either"),
        (Setup(api_key=KEY), "--url"),
        (Setup(url="http://a"), "--api-key"),
        (Setup(url="a", api_key=KEY), "http://"),
        (Setup(url="ftp://a", api_key=KEY), "http://"),
        (Setup(url="http://", api_key=KEY), "http://"),
        (Setup(url="http://[", api_key=KEY), "http://"),
        (Setup(url="http://a b", api_key=KEY), "http://"),
        (Setup(url="http://a:port", api_key=KEY), "http://"),
        (Setup(url="http://a", api_key="two words"), "not an API key"),
        (Setup(url="http://a", api_key="hlg_\u00fc"), "not an API key"),
    ],
)
def test_contradictions_and_gaps_are_named(given: Setup, words: str) -> None:
    with pytest.raises(Failure, match=words) as caught:
        for_setup(given)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"), [("", "damaged"), ("[]", "no demo.json"), ('{"baseUrl":"","apiKey":""}', "never been up")]
)
def test_a_demo_that_cannot_be_used_is_named(text: str, words: str) -> None:
    Path("d").mkdir()
    Path("d/demo.json").write_text(text)
    with pytest.raises(Failure, match=words):
        for_api(Remote(data_dir=Path("d")))


def test_two_ways_at_once_are_refused() -> None:
    with pytest.raises(Failure, match="either"):
        for_api(Remote(url="http://a", api_key=KEY, data_dir=Path("d")))


def test_representations_hold_no_secret() -> None:
    assert KEY not in repr(HTTP)
    assert "geheim" not in repr(OnDatabase(Path("d"), "postgresql://u:geheim@h/d"))


def test_a_directory_without_a_demo_leads_to_what_is_set(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match="give --url and --api-key"):
        for_api(Remote(data_dir=Path("d")))
    set_http(environment)
    with pytest.raises(Failure, match="leave --data-dir out to use HELIOGRAPH_URL"):
        for_api(Remote(data_dir=Path("d")))
