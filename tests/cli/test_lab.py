"""The lab and the agent, by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.cli.rig import Cli, outside, serving
from tests.support.ports import free_port

SERVICES = ("control", "amapi", "pushy", "pubsub", "apns", "fcm", "webpush", "wns")
DEVICES = [{"deviceId": f"d{n}", "name": f"device-{n}", "platform": "aosp", "online": False} for n in (1, 2)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lab")
    with serving(folder, "lab", "up", "--data-dir", folder) as urls:
        httpx2.put(f"{urls['controlUrl']}/fleet", json=DEVICES, trust_env=False).raise_for_status()
        yield {**urls, "where": ["--lab-url", urls["controlUrl"]], "folder": folder}


def test_devices_are_changed_by_name_or_id(cli: Cli, lab: dict[str, Any]) -> None:
    assert [d["name"] for d in cli.ok("lab", "device", "list", *lab["where"])["items"]] == ["device-1", "device-2"]
    cli.ok("lab", "device", "set", "device-1", "--latency", 5, *lab["where"])
    outcome = '{"result":"error","errorCode":"LOW_BATTERY"}'
    changed = cli.ok("lab", "device", "set", "d1", "--outcome", outcome, "--offline", *lab["where"])
    assert (changed["latencyMs"], changed["online"], changed["outcome"]["errorCode"]) == (5, False, "LOW_BATTERY")
    assert "LOW_BATTERY" in cli("lab", "device", "list", *lab["where"]).out


def test_the_journal(cli: Cli, lab: dict[str, Any]) -> None:
    assert cli.ok("lab", "device", "journal", "device-2", *lab["where"]) == {"items": []}
    assert "nothing" in cli("lab", "device", "journal", "device-2", *lab["where"]).out


def test_faults(cli: Cli, lab: dict[str, Any]) -> None:
    rules = '[{"service":"pushy","action":{"status":429,"retryAfter":2},"times":3}]'
    Path("rules").write_text(rules)
    [rule] = cli.ok("lab", "faults", "put", "@rules", *lab["where"])
    assert (rule["service"], rule["times"]) == ("pushy", 3)
    assert "429" in cli("lab", "faults", "get", *lab["where"]).out
    assert cli.ok("lab", "faults", "clear", *lab["where"]) == []
    assert "Nothing goes wrong" in cli("lab", "faults", "get", *lab["where"]).out


def test_one_lab_has_a_directory(lab: dict[str, Any], tmp_path: Path) -> None:
    second = outside("lab", "up", "--data-dir", lab["folder"], folder=tmp_path)
    assert (second.code, "in use" in second.err, "Traceback" in second.err) == (6, True, False)


def test_a_directory_that_cannot_be_used_is_told(cli: Cli) -> None:
    Path("data").write_text("a file")
    result = cli("lab", "up", "--data-dir", "data")
    assert (result.code, "--data-dir" in result.err) == (2, True)


def test_the_clock(cli: Cli, lab: dict[str, Any]) -> None:
    before = cli.ok("lab", "clock", "advance", 0, *lab["where"])["offsetSeconds"]
    assert cli.ok("lab", "clock", "advance", 60, *lab["where"])["offsetSeconds"] == before + 60
    assert cli("lab", "clock", "advance", 1, *lab["where"]).out.startswith("now")


def test_an_enrolled_device(cli: Cli, lab: dict[str, Any]) -> None:
    headers = {"authorization": "Bearer any"}
    with httpx2.Client(base_url=lab["amapiUrl"], headers=headers, trust_env=False) as google:
        body = {"enterpriseDisplayName": "Acme", "contactInfo": {"contactEmail": "it@acme.example"}}
        query = {"projectId": "p", "agreementAccepted": "true"}
        name = google.post("/v1/enterprises", json=body, params=query).json()["name"]
        token = google.post(f"/v1/{name}/enrollmentTokens", json={}).json()["value"]
        options = ["--name", "phone", "--serial", "S1", "--api-level", 30, "--personal", "--offline"]
        first = cli.ok("lab", "device", "enroll", token, *options, *lab["where"])
        assert (first["name"], first["online"]) == ("phone", False)
        shown = google.get(f"/v1/{first['amapiName']}").json()
        assert (shown["apiLevel"], shown["ownership"]) == (30, "PERSONALLY_OWNED")
    assert name in cli("lab", "device", "enroll", token, "--serial", "S1", *lab["where"]).out
    assert "is gone" in cli("lab", "device", "remove", "phone", *lab["where"]).out
    assert cli("lab", "device", "enroll", "none", *lab["where"]).code == 2
    assert "unknown" in cli("lab", "quota", *lab["where"]).out  # the project of a token from elsewhere
    assert cli.ok("lab", "quota", *lab["where"])["limit"] is None


def test_settings(cli: Cli, lab: dict[str, Any]) -> None:
    changed = cli.ok("lab", "settings", "set", '{"amapi":{"expiryCode":13,"quotaLimit":600}}', *lab["where"])
    assert changed["amapi"]["expiryCode"] == 13
    assert "600 in 60 s" in cli("lab", "quota", *lab["where"]).out
    assert "expiryCode" in cli("lab", "settings", "get", *lab["where"]).out
    assert cli.ok("lab", "settings", "reset", *lab["where"])["amapi"]["expiryCode"] == 4


def test_it_says_what_is_where(lab: dict[str, Any]) -> None:
    said = (lab["folder"] / "stdout").read_text()
    assert "Ctrl-C" in said
    assert all(lab[name] in said for name in ("amapiUrl", "pushyUrl", "controlUrl"))


def test_the_lab_is_found(cli: Cli, lab: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_LAB_URL", lab["controlUrl"])
    assert cli("lab", "device", "list").code == 0
    monkeypatch.delenv("HELIOGRAPH_LAB_URL")
    Path("var").mkdir()
    Path("var/demo.json").write_text(f'{{"labUrl":"{lab["controlUrl"]}"}}')
    assert cli("lab", "device", "list").code == 0


def test_a_lab_of_its_own_is_found_by_its_directory(cli: Cli, tmp_path: Path) -> None:
    where = ["--data-dir", tmp_path / "data"]
    Path("data/lab").mkdir(parents=True)
    Path("data/lab/ready.json").write_text('{"controlUrl":"http://127.0.0.1:1"}')
    assert cli("lab", "device", "list", *where).code == 3
    Path("data/lab/ready.json").unlink()
    result = cli("lab", "device", "list", *where)
    assert (result.code, "lab up" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["device", "set", "nobody", "--online"], 5, "device-1"),
        (["device", "set", "d1"], 2, "--online"),
        (["device", "set", "d1", "--outcome", "{"], 2, "JSON"),
        (["device", "set", "d1", "--outcome", '{"result":"maybe"}'], 2, "result"),
        (["device", "journal", "nobody"], 5, "device-1"),
        (["faults", "put", "[{}]"], 2, "service"),
        (["settings", "set", '{"amapi":{"expiryCode":99}}'], 2, "expiryCode"),
        (["settings", "set", "expiryCode"], 2, "JSON"),
        (["faults", "put", "@missing"], 2, "missing"),
    ],
)
def test_what_cannot_be_meant_is_named(
    cli: Cli, lab: dict[str, Any], arguments: list[str], code: int, words: str
) -> None:
    result = cli("lab", *arguments, *lab["where"])
    assert (result.code, words in result.err) == (code, True)


def test_what_is_no_lab_is_told(cli: Cli, lab: dict[str, Any]) -> None:
    assert cli("lab", "device", "list", "--lab-url", f"{lab['controlUrl']}/nowhere").code == 5
    assert cli("lab", "device", "list", "--lab-url", "nonsense").code == 3
    assert cli("lab", "device", "list", *lab["where"], "--data-dir", "x").code == 2


def test_the_agent_refuses_to_act_on_this_machine(cli: Cli) -> None:
    result = cli("agent", "run", "--server", "http://127.0.0.1:1")
    assert (result.code, "--simulate" in result.err) == (2, True)


def test_every_service_takes_the_port_that_it_is_given(tmp_path: Path) -> None:
    ports = {service: free_port() for service in SERVICES}
    wanted = [part for service, port in ports.items() for part in (f"--{service}-port", port)]
    with serving(tmp_path, "lab", "up", "--data-dir", tmp_path / "data", *wanted) as urls:
        assert {service: urlsplit(urls[f"{service}Url"]).port for service in SERVICES} == ports
