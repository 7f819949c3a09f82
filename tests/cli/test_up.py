"""`heliograph up` refuses to start where it must not, in one line, and leaves what is there alone."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx2
import pytest

from heliograph.cli.lab_process import Lab
from heliograph.cli.node import read_settings
from heliograph.cli.up import beside
from tests.cli.rig import Cli, Result, outside, serving, signed_up, until


def refusal(result: Result) -> str:
    """The only line of a command that was refused."""
    assert result.out == ""
    [line] = result.err.splitlines()
    return line


@pytest.mark.parametrize("more", [[], ["--demo"]])
def test_a_directory_in_use(tmp_path: Path, more: list[str]) -> None:
    with serving(tmp_path, "up", "--port", 0, "--data-dir", "data") as first:
        second = outside("up", *more, "--port", 0, "--data-dir", "data", "--ready-file", "ready.json", folder=tmp_path)
        assert (tmp_path / "ready.json").exists()  # that of the server which runs
        assert httpx2.get(f"{first['baseUrl']}/readyz", trust_env=False).status_code == 200
    assert second.code == 6
    assert f"data is in use by process {first['pids']['server']}" in refusal(second)


@pytest.mark.parametrize("more", [[], ["--demo"]])
def test_a_port_that_is_taken(tmp_path: Path, more: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = outside("up", *more, "--port", port, "--ready-file", "ready", folder=tmp_path)
    assert result.code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with --port" in refusal(result)
    assert not (tmp_path / "ready").exists()


def next_page(site: dict[str, Any]) -> str:
    """Where a list leads to when a proxy says that the client came over TLS."""
    page = httpx2.get(
        f"{site['baseUrl']}/v1/organizations/{site['organization']['slug']}/mdm/devices?limit=1",
        headers={"Authorization": f"Bearer {site['apiKey']}", "X-Forwarded-Proto": "https"},
        trust_env=False,
    )
    return page.links["next"]["url"]


def test_a_demo_comes_back_where_it_was_and_as_it_was(tmp_path: Path) -> None:
    """Also without the port that the first start was given, and with the devices as somebody left them.

    In passing: a proxy that ends TLS passes on plain HTTP; it is believed where it is trusted, and only there.
    """
    with serving(tmp_path, "up", "--demo", "--port", 0, "--data-dir", "data") as first:
        assert next_page(first).startswith("http://")
        [aosp] = [d for d in first["devices"] if d["name"] == "aosp-builtin-online"]
        url = f"{first['lab']['controlUrl']}/devices/{aosp['deviceId']}"
        assert httpx2.put(url, json={"online": False}, trust_env=False).status_code == 200
    with serving(tmp_path, "up", "--demo", "--data-dir", "data", HELIOGRAPH_TRUSTED_PROXIES="127.0.0.1") as again:
        assert next_page(again).startswith("https://")
    changed = {d["deviceId"]: d["online"] for d in again["devices"]} | {aosp["deviceId"]: True}
    assert [d["online"] for d in again["devices"] if d["deviceId"] == aosp["deviceId"]] == [False]
    assert changed == {d["deviceId"]: d["online"] for d in first["devices"]}
    same = ("baseUrl", "apiKey", "organization", "otherOrganization", "lab")
    assert {name: again[name] for name in same} == {name: first[name] for name in same}


def test_an_enterprise_is_connected_in_the_demos_own_lab(tmp_path: Path) -> None:
    """Also after a restart: what is stored names no address, so the running lab's has to be the usual one."""

    def told(*arguments: object) -> Result:
        return outside(*arguments, "--json", "--data-dir", "data", folder=tmp_path)

    connect = ("enterprise", "connect", "--credentials", "key.json")
    with serving(tmp_path, "up", "--demo", "--port", 0, "--data-dir", "data") as site:
        assert told("lab", "credentials", "key.json").code == 0
        begun = told(*connect).json["signUpUrl"]
        assert begun.startswith(site["lab"]["amapiUrl"])
        answer = told(*connect, "--enterprise-token", signed_up(begun)).json
        name, token = answer["enterprise"]["name"], answer["enrollmentToken"]["value"]
        assert told("lab", "device", "enroll", token, "--name", "phone", "--serial", "TILL7").code == 0
        until(lambda: "TILL7" in told("device", "list").out, "the server heard of the phone")
    with serving(tmp_path, "up", "--demo", "--data-dir", "data"):
        examined = told("doctor", "--enterprise", name, "--send-test")
        assert (examined.code, examined.json["healthy"]) == (0, True), examined.out
    assert "cannot_be_pulled" not in (tmp_path / "stderr").read_text()  # the lab goes when nobody needs it any more


def test_an_address_of_google_that_is_set_goes_before_the_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_PUBSUB_URL", "http://pubsub.example")
    names = ("control", "amapi", "pushy", "pubsub", "apns", "fcm", "wns", "webpush")
    urls = {f"{name}_url": f"http://{name}" for name in names}
    lab = Lab(**urls, ca_path=Path("ca.pem"), pid=1, process=Mock())
    settings = beside(lab, read_settings())
    assert (settings.amapi_url, settings.pubsub_url, settings.google_certs_url) == (
        "http://amapi",
        "http://pubsub.example",
        "http://pubsub/certs",
    )


def test_a_ready_file_that_a_killed_server_left_is_gone_before_the_next_is_ready(tmp_path: Path) -> None:
    stale = tmp_path / "ready.json"
    stale.write_text('{"pids":{"server":2147483646}}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outside("up", "--port", port, "--ready-file", stale, folder=tmp_path)
    assert not stale.exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_demo_is_for_this_machine_alone(cli: Cli, host: str) -> None:
    Path("data").write_text("no directory: should it try after all, it does not get far")
    result = cli("up", "--demo", "--host", host, "--data-dir", "data")
    assert result.code == 2
    assert f"listens on loopback only, not on {host}" in refusal(result)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_every_loopback_address_may_have_a_demo(cli: Cli, host: str) -> None:
    Path("data").write_text("no directory")
    result = cli("up", "--demo", "--host", host, "--data-dir", "data")
    assert (result.code, "loopback" in result.err) == (3, False)
