"""`enterprise connect`, `enterprise token`, `doctor` and `lab credentials` against a lab of their own."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heliograph.cli import lab_credentials
from heliograph.cli.enterprise_connect import token_in
from heliograph.cli.exits import Failure
from tests.cli.rig import PATIENCE_S, Cli, command, outside, plain_environment, process, signed_up, until
from tests.cli.test_terminal import on_terminal

HERE = ["--data-dir", "data"]


@dataclass(frozen=True)
class LabSite:
    folder: Path
    urls: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What leads a server to this lab."""
        return {"HELIOGRAPH_AMAPI_URL": self.urls["amapiUrl"], "HELIOGRAPH_PUBSUB_URL": self.urls["pubsubUrl"]}

    def faults(self, *rules: dict[str, Any]) -> None:
        httpx2.put(f"{self.urls['controlUrl']}/faults", json=list(rules), trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSite]:
    folder = tmp_path_factory.mktemp("lab")
    ready = folder / "ready.json"
    with process(folder, "lab", "up", "--data-dir", folder, "--ready-file", ready):
        until(ready.exists, "the lab did not start")
        yield LabSite(folder, json.loads(ready.read_text()))


@pytest.fixture
def lab(running_lab: LabSite, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Iterator[LabSite]:
    for name, value in running_lab.environment.items():
        monkeypatch.setenv(name, value)
    cli.ok("org", "create", "acme", *HERE)
    cli.ok("lab", "credentials", "key.json", "--lab-url", running_lab.urls["controlUrl"])
    yield running_lab
    running_lab.faults()


def connected(cli: Cli, lab: LabSite, *more: str) -> Any:
    begun = cli("enterprise", "connect", "--credentials", "key.json", "--json", *HERE)
    assert (begun.code, begun.json["connected"]) == (1, False)
    token = signed_up(begun.json["signUpUrl"])
    return cli.ok("enterprise", "connect", "--credentials", "key.json", "--enterprise-token", token, *more, *HERE)


def test_a_script_connects_in_two_calls(cli: Cli, lab: LabSite) -> None:
    answer = connected(cli, lab, "--duration", "2h", "--one-time", "--additional-data", "till 7", "--qr", "code.svg")
    assert (answer["connected"], answer["signUpUrl"]) == (True, None)
    token = answer["enrollmentToken"]
    assert (token["oneTimeOnly"], token["additionalData"]) == (True, "till 7")
    picture = Path("code.svg")
    assert picture.read_bytes().startswith(b"<?xml")
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    [listed] = cli.ok("enterprise", "tokens", *HERE)["items"]
    assert token["value"] not in json.dumps(listed)
    again = cli.ok("enterprise", "connect", "--no-enroll", *HERE)
    assert (again["connected"], again["enrollmentToken"]) == (True, None)


def test_on_a_terminal_it_waits_for_the_token_and_draws_the_code(lab: LabSite) -> None:
    begun = outside(
        "enterprise", "connect", "--credentials", "key.json", "--json", *HERE, folder=Path.cwd(), **lab.environment
    )
    page = f"https://example.com/done?x=1&enterpriseToken={signed_up(begun.json['signUpUrl'])}"
    asked = ["enterprise", "connect", "--credentials", "key.json", *HERE]
    shown = on_terminal(*asked, folder=Path.cwd(), typed=f"{page}\n", **lab.environment)
    assert shown.code == 0, shown.out
    assert "Connected: enterprises/LC" in shown.out
    assert "\N{LOWER HALF BLOCK}" in shown.out


def test_ctrl_c_at_the_question_for_the_token_ends_it(lab: LabSite) -> None:
    """And nothing of it is taken for a token; the directory is free meanwhile, so that a server can be started."""
    asked = command("enterprise", "connect", "--credentials", "key.json", *HERE)
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        asked, stdin=theirs, stdout=theirs, stderr=theirs, env=plain_environment(TERM="xterm", **lab.environment)
    )
    os.close(theirs)
    shown = b""
    while b"Paste the token" not in shown:
        shown += os.read(ours, 65_536)
    assert outside("org", "list", *HERE, folder=Path.cwd()).code == 0
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    os.close(ours)


def test_a_narrow_terminal_folds_lines_and_gets_no_code_that_cannot_be_scanned(lab: LabSite) -> None:
    begun = outside(
        "enterprise", "connect", "--credentials", "key.json", "--json", *HERE, folder=Path.cwd(), **lab.environment
    )
    typed = f"{signed_up(begun.json['signUpUrl'])}\n"
    asked = ["enterprise", "connect", "--credentials", "key.json", *HERE]
    shown = on_terminal(*asked, folder=Path.cwd(), typed=typed, COLUMNS="80", **lab.environment)
    assert (shown.code, "\N{LOWER HALF BLOCK}" in shown.out) == (0, False), shown.out
    assert "heliograph enterprise token --qr code.png" in shown.out
    steps = [line for line in shown.out.splitlines() if line[:2] in ("= ", "+ ", "  ")]
    assert max(map(len, steps)) <= 80


def test_a_step_that_fails_is_named_with_what_to_do(cli: Cli, lab: LabSite) -> None:
    lab.faults({"service": "amapi", "match": {"path": "/v1/"}, "action": {"status": 403}})
    plain = cli("enterprise", "connect", "--credentials", "key.json", *HERE)
    assert (plain.code, "x sign-up" in plain.out) == (1, True)
    assert "roles/androidmanagement.user" in plain.out
    assert plain.err == "heliograph: not connected, because of the step marked with x: sign-up\n"
    document = cli("enterprise", "connect", "--credentials", "key.json", "--json", *HERE)
    assert (document.code, document.json["steps"][-1]["state"]) == (1, "failed")
    assert document.error["exitCode"] == 1


def test_a_server_that_does_not_lead_to_the_lab_is_told_from_a_network_that_fails(
    cli: Cli, lab: LabSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a shell without the variables, and on a day when the lab was not started."""
    connect = ("enterprise", "connect", "--credentials", "key.json", "--json", *HERE)
    monkeypatch.delenv("HELIOGRAPH_AMAPI_URL")
    [step] = cli(*connect).json["steps"]
    assert (step["step"], step["state"]) == ("credentials", "failed")
    assert "heliograph lab credentials" in step["advice"]
    with socket.create_server(("127.0.0.1", 0)) as gone:
        monkeypatch.setenv("HELIOGRAPH_AMAPI_URL", f"http://127.0.0.1:{gone.getsockname()[1]}")
    step = cli(*connect).json["steps"][-1]
    assert (step["step"], step["state"]) == ("network", "failed")
    assert "heliograph lab up" in step["advice"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["connect", "--credentials", "missing"], "missing"),
        (["connect", "--credentials", "cut.json"], "cut off"),
        (["connect", "enterprises"], "enterprises/LC0123abcd"),
        (["connect", "--credentials", "key.json", "--qr", "code.jpg"], ".png or .svg"),
        (["connect", "--credentials", "key.json", "--enterprise-token", "two words"], "--enterprise-token"),
        (["connect", "--credentials", "key.json", "--topic", "mine"], "topic"),
        (["token", "--duration", "1s"], "at least 60 and at most 315360000000"),
        (["token"], "connect one first"),
    ],
)
def test_bad_input_is_refused_before_anything_is_done(cli: Cli, lab: LabSite, arguments: list[str], words: str) -> None:
    Path("cut.json").write_text(Path("key.json").read_text()[:300])
    result = cli("enterprise", *arguments, *HERE)
    assert (result.code, result.out) == (2, "")
    assert words in result.err


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("Eabc\n", "Eabc"),
        ("https://e.example/?enterpriseToken=Eabc", "Eabc"),
        ("http://e/?a=1&enterpriseToken=E%2Bc", "E+c"),
    ],
)
def test_a_token_is_taken_from_what_people_copy(text: str, token: str) -> None:
    assert token_in(text) == token


@pytest.mark.parametrize(
    "text", ["", "a b", "https://e.example/", "https://e/?enterpriseToken=a&enterpriseToken=b", "x" * 300]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="neither a token nor an address"):
        token_in(text)


def test_the_doctor_without_an_installation(cli: Cli) -> None:
    result = cli("doctor", "--json", *HERE)
    assert (result.code, result.json["healthy"]) == (1, False)
    assert [(c["step"], c["state"]) for c in result.json["checks"]] == [("data directory", "failed")]


def test_the_doctor_finds_a_whole_installation_whole(cli: Cli, lab: LabSite) -> None:
    name = connected(cli, lab)["enterprise"]["name"]
    cli.ok("org", "create", "other", *HERE)
    found = cli.ok("doctor", *HERE)
    assert found["healthy"]
    assert {c["enterprise"] for c in found["checks"]} == {None, name}
    assert cli.ok("doctor", "--enterprise", name, *HERE)["healthy"]
    text = cli("doctor", *HERE)
    assert (text.code, f"{name} of acme" in text.out) == (0, True)


def test_the_doctor_names_the_step_at_google_that_fails(cli: Cli, lab: LabSite) -> None:
    name = connected(cli, lab)["enterprise"]["name"]
    lab.faults({"service": "pubsub", "action": {"status": 403}})
    result = cli("doctor", "--json", *HERE)
    assert result.code == 1
    [failed] = [c for c in result.json["checks"] if c["state"] == "failed"]
    assert (failed["step"], failed["enterprise"]) == ("topic", name)
    assert "roles/pubsub.admin" in failed["advice"]
    assert "topic" in result.error["message"]


def test_the_doctor_misses_the_secret_key(cli: Cli, lab: LabSite) -> None:
    connected(cli, lab)
    Path("data/secret.key").rename("kept.key")
    result = cli("doctor", "--json", *HERE)
    assert (result.code, result.json["checks"][-1]["step"]) == (1, "secret key")
    assert not Path("data/secret.key").exists()


def test_the_doctor_applies_no_migrations(cli: Cli, lab: LabSite) -> None:
    import sqlite3

    with sqlite3.connect("data/heliograph.db") as database:
        database.execute("DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)")
    result = cli("doctor", "--json", *HERE)
    assert (result.code, result.json["checks"][-1]["step"]) == (1, "database")
    assert "heliograph db migrate" in result.json["checks"][-1]["advice"]


def test_a_key_file_of_the_lab_is_for_its_owner_and_stays(cli: Cli, lab: LabSite) -> None:
    file = Path("key.json")
    before = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    url = ["--lab-url", lab.urls["controlUrl"]]
    printed = cli("lab", "credentials", "key.json", *url)  # as on the next day, or in another shell
    assert f"export HELIOGRAPH_AMAPI_URL={lab.urls['amapiUrl']}" in printed.out.splitlines()
    assert file.read_bytes() == before
    assert cli("lab", "credentials", "other.json", "--project", "X", *url).code == 2
    cli.ok("lab", "credentials", "other.json", "--project", "other-project", *url)
    assert json.loads(Path("other.json").read_text())["project_id"] == "other-project"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"project_id":"lab-project","token_uri":"https://oauth2.example/token"}']
)
def test_what_is_no_key_of_the_lab_stays_and_is_refused(cli: Cli, lab: LabSite, content: str) -> None:
    Path("mine.json").write_text(content)
    result = cli("lab", "credentials", "mine.json", "--lab-url", lab.urls["controlUrl"])
    assert (result.code, "there already" in result.err) == (2, True)
    assert Path("mine.json").read_text() == content


def test_a_lab_that_is_being_started_is_waited_for(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the how-to, where the one is started in the background and the other given right after it."""
    monkeypatch.setattr(lab_credentials, "SIGN_S", PATIENCE_S)  # until the command line is imported
    with process(tmp_path, "lab", "up", "--data-dir", "fresh"):
        result = cli("lab", "credentials", "key.json", "--data-dir", tmp_path / "fresh")
    assert (result.code, result.err) == (0, "")


def test_a_lab_that_does_not_come_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_credentials, "SIGN_S", 0.2)
    result = cli("lab", "credentials", "key.json", "--data-dir", "nowhere")
    assert (result.code, "heliograph lab up" in result.err) == (2, True)
    assert not Path("key.json").exists()
