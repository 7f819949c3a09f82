"""Beside a running server: set-up through its socket and over HTTP, devices, commands, pushes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.rig import Cli, Site, command, outside, plain_environment, until

PASSWORD = "canary-hunter22"


@pytest.fixture
def sent(cli: Cli, site: Site) -> Iterator[str]:
    """A command that stays pending: nobody picks it up."""
    made = cli.ok("command", "send", "shelf", "LOCK", *site.http)
    yield made["id"]
    cli("command", "cancel", "shelf", made["id"], *site.http)


class TestSetup:
    """Set-up while the server runs."""

    def test_the_running_server_does_it(self, cli: Cli, site: Site) -> None:
        key = cli.ok("key", "create", "--permission", "mdm.global.*", *site.here)
        where = ["--url", site.url, "--api-key", key["secret"], "--org", "acme"]
        assert cli("device", "list", *where).code == 0
        cli.ok("key", "revoke", key["id"], *site.here)
        result = cli("device", "list", *where)
        assert (result.code, "key create" in result.err) == (4, True)

    def test_over_http_it_is_the_same(self, cli: Cli, site: Site) -> None:
        key = cli.ok("key", "create", "--permission", "mdm.global.device.get", "--expires", "1h", *site.http)
        assert key["secret"].startswith("hlg_")
        assert key["id"] in {k["id"] for k in cli.ok("key", "list", *site.http)["items"]}
        assert cli.ok("key", "revoke", key["id"], *site.http)["revoked"]
        assert cli.ok("org", "create", "over-http", *site.http)["slug"] == "over-http"
        off = cli.ok("org", "update", "over-http", "--feature", "aospCommands=off", *site.http)
        assert (off["slug"], off["features"]) == ("over-http", {"aospCommands": False})
        added = cli.ok("device", "add", "--platform", "package", "--name", "over http", *site.http)
        assert added["agentSecret"] != cli.ok("device", "secret", added["id"], *site.http)["agentSecret"]

    def test_a_key_hands_on_only_what_it_holds(self, cli: Cli, site: Site) -> None:
        weak = cli.ok("key", "create", "--permission", "base.apiKey.create", *site.here)["secret"]
        where = ["--url", site.url, "--api-key", weak, "--org", "acme"]
        result = cli("key", "create", "--permission", "*", *where)
        assert (result.code, "only the permissions that it holds" in result.err) == (4, True)

    def test_another_organization_is_not_found(self, cli: Cli, site: Site) -> None:
        result = cli("key", "list", "--url", site.url, "--api-key", site.key["secret"], "--org", "nobody")
        assert (result.code, "not this key's" in result.err) == (5, True)

    def test_an_import_over_http(self, cli: Cli, site: Site) -> None:
        Path("fleet").write_text("platform,name\npackage,imported\n")
        [item] = cli.ok("device", "import", "fleet", *site.http)["items"]
        assert item["agentSecret"].startswith("hla_")

    def test_what_needs_the_database_alone_says_who_holds_it(self, cli: Cli, site: Site) -> None:
        result = cli("db", "migrate", "--data-dir", site.data_dir)
        assert (result.code, "in use by process" in result.err) == (6, True)

    def test_migrations_can_be_looked_at(self, cli: Cli, site: Site) -> None:
        assert cli.ok("db", "status", "--data-dir", site.data_dir)["pending"] == 0

    def test_the_environment_leads_there(self, cli: Cli, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HELIOGRAPH_DATA_DIR", str(site.data_dir))
        monkeypatch.setenv("HELIOGRAPH_ORG", "acme")
        assert site.key["id"] in {k["id"] for k in cli.ok("key", "list")["items"]}
        monkeypatch.setenv("HELIOGRAPH_URL", site.url)
        monkeypatch.setenv("HELIOGRAPH_API_KEY", site.key["secret"])
        assert site.kiosk["id"] in {d.get("aosDevice") for d in cli.ok("device", "list", "--limit", 1000)["items"]}


class TestDevices:
    """Which device is meant."""

    @pytest.mark.parametrize("name", ["kiosk", "K1"])
    def test_names_and_serial_numbers(self, cli: Cli, site: Site, name: str) -> None:
        assert cli.ok("device", "get", name, *site.http)["aosDevice"] == site.kiosk["id"]

    def test_ids_of_either_kind(self, cli: Cli, site: Site) -> None:
        for name in (site.phone["id"], site.phone["allPlatformId"], site.phone["id"].upper()):
            assert cli.ok("device", "get", name, *site.http)["emmDevice"] == site.phone["id"]

    @pytest.mark.parametrize("name", ["nobody", "0" * 24, "../x", "a b?c#d"])
    def test_nobody(self, cli: Cli, site: Site, name: str) -> None:
        result = cli("device", "get", name, *site.http)
        assert (result.code, "device list" in result.err) == (5, True)

    def test_a_name_that_fits_two_is_refused_with_both(self, cli: Cli, site: Site) -> None:
        ids = [cli.ok("device", "add", "--platform", "package", "--name", "twin", *site.here)["id"] for _ in range(2)]
        result = cli("push", "send", "twin", "--body", "x", *site.http)
        assert (result.code, [i for i in ids if i not in result.err]) == (6, [])

    def test_a_key_for_one_platform_still_finds_its_devices(self, cli: Cli, site: Site) -> None:
        key = cli.ok("key", "create", "--permission", "mdm.android.*", *site.here)["secret"]
        where = ["--url", site.url, "--api-key", key, "--org", "acme"]
        assert cli.ok("command", "list", "P1", *where)["totalDocs"] >= 0
        assert cli.ok("command", "list", site.phone["id"], *where)["totalDocs"] >= 0
        assert cli("command", "list", "nobody", *where).code == 4
        assert cli("device", "list", *where).code == 4

    def test_a_key_of_another_organization(self, cli: Cli, site: Site) -> None:
        result = cli("device", "list", *site.http[:-1], "other")
        assert (result.code, "without --org" in result.err) == (5, True)

    def test_lists_are_paged(self, cli: Cli, site: Site) -> None:
        page = cli.ok("device", "list", "--limit", 1, "--page", 2, "--sort", "createdAt:asc", *site.http)
        assert (len(page["items"]), page["page"]) == (1, 2)
        assert "Page 1 of" in cli("device", "list", "--limit", 1, *site.http).err
        assert cli("device", "list", "--sort", "colour", *site.http).code == 2


class TestCommands:
    """Commands."""

    def test_one_that_is_waited_for(self, cli: Cli, site: Site) -> None:
        done = cli.ok("command", "send", "kiosk", "reboot", "--wait", 30, *site.http)
        assert (done["status"], done["progress"]["rung"]) == ("DONE", "succeeded")
        shown = cli("command", "get", "kiosk", done["id"], *site.http)
        assert [rung for rung in ("queued", "acknowledged", "succeeded") if rung not in shown.out] == []

    def test_one_that_nobody_picks_up(self, cli: Cli, site: Site) -> None:
        result = cli("command", "send", "shelf", "LOCK", "--wait", 1, "--json", *site.http)
        assert (result.code, result.error["exitCode"], result.json["status"]) == (7, 7, "PENDING")
        cancelled = cli.ok("command", "cancel", "shelf", result.json["id"], *site.http)
        assert cancelled["status"] == "CANCEL"
        again = cli("command", "cancel", "shelf", result.json["id"], *site.http)
        assert (again.code, "command get" in again.err) == (6, True)
        waited = cli("command", "get", "shelf", result.json["id"], "--wait", 5, *site.http)
        assert (waited.code, "cancelled" in waited.err) == (1, True)

    def test_android_has_the_same_verbs(self, cli: Cli, site: Site) -> None:
        made = cli.ok(
            "command", "send", "P1", "clear-app-data", "--param", "packageNames=com.example", "-y", *site.http
        )
        assert made["config"]["metadata"]["type"] == "CLEAR_APP_DATA"
        assert made["id"] in cli("command", "list", "phone", *site.http).out
        assert cli.ok("command", "cancel", "phone", made["id"], "--wait", 5, *site.http)["status"] == "CANCEL"

    def test_what_destroys_has_to_be_confirmed(self, cli: Cli, site: Site) -> None:
        before = cli.ok("command", "list", "shelf", *site.http)["totalDocs"]
        result = cli("command", "send", "shelf", "DISENROLL", *site.http)
        assert (result.code, "--yes" in result.err, "S1" in result.err) == (1, True, True)
        assert cli.ok("command", "list", "shelf", *site.http)["totalDocs"] == before

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["shelf", "RESET_PASSWORD"], "newPassword: is required"),
            (["P1", "REMOVE_ESIM"], "iccid: is required"),
            (["P1", "DISENROLL"], "must be one of"),
            (["shelf", "LOCK", "--duration", "0s"], "more than 0"),
            (["P1", "LOCK", "--duration", "0"], "more than 0"),
        ],
    )
    def test_what_is_wrong_is_told_before_anybody_is_asked(
        self, cli: Cli, site: Site, arguments: list[str], words: str
    ) -> None:
        result = cli("command", "send", *arguments, *site.http)
        assert (result.code, words in result.err, "--yes" in result.err) == (2, True, False)

    def test_a_refusal_names_what_is_missing(self, cli: Cli, site: Site) -> None:
        key = cli.ok("key", "create", "--permission", "mdm.global.device.*,base.*", *site.here)["secret"]
        where = ["--url", site.url, "--api-key", key]
        refused = cli("command", "send", "shelf", "LOCK", *where)
        assert (refused.code, "heliograph key create --permission mdm.aosp.command.create" in refused.err) == (4, True)
        refused = cli("provider", "list", *where)
        assert (refused.code, "the permission mdm.pushProvider.list;" in refused.err) == (4, True)

    def test_a_feature_that_is_missing_is_named(self, cli: Cli, site: Site) -> None:
        cli.ok("org", "create", "small", "--data-dir", site.data_dir)
        small = ["--data-dir", site.data_dir, "--org", "small"]
        cli.ok("org", "update", "small", "--feature", "aospCommands=off", "--data-dir", site.data_dir)
        key = cli.ok("key", "create", "--permission", "*", *small)["secret"]
        cli.ok("device", "add", "--platform", "aosp", "--name", "till", *small)
        refused = cli("command", "list", "till", "--url", site.url, "--api-key", key)
        assert (refused.code, "--feature aospCommands=on" in refused.err) == (4, True)

    def test_secrets_of_a_command_are_never_shown(self, cli: Cli, site: Site) -> None:
        Path("password").write_text(PASSWORD + "\n")
        cli.seen.clear()
        ask = ["command", "send", "kiosk", "RESET_PASSWORD", "--yes", "--param", "newPassword=@password", "--wait", 30]
        assert cli(*ask, *site.http).code == 0
        cli.ok(*ask, *site.http)
        assert cli("command", "list", "kiosk", *site.http).code == 0
        assert cli(*ask[:4], "--yes", "--params", '{"newPassword":["@"]}', *site.http).code == 2
        assert PASSWORD not in "".join(cli.seen)

    def test_unknown_types_and_devices_without_commands(self, cli: Cli, site: Site) -> None:
        unknown = cli("command", "send", "kiosk", "EXPLODE", *site.http)
        assert (unknown.code, "must be one of CLEAR_APP_DATA" in unknown.err) == (2, True)
        result = cli("command", "send", "signage", "LOCK", *site.http)
        assert (result.code, "push send" in result.err) == (2, True)

    def test_unknown_commands(self, cli: Cli, site: Site) -> None:
        for verb in ("get", "cancel", "watch"):
            result = cli("command", verb, "kiosk", "0" * 24, *site.http)
            assert (result.code, "0" * 24 in result.err, "command list" in result.err) == (5, True, True)

    def test_following_one_to_its_end(self, cli: Cli, site: Site) -> None:
        made = cli.ok("command", "send", "kiosk", "LOCK", *site.http)
        result = cli("command", "watch", "kiosk", made["id"], *site.http)
        assert (result.code, result.out.splitlines()[-1]) == (0, "LOCK: succeeded")
        rungs = [line.split()[2] for line in result.out.splitlines()[:-1]]
        assert (rungs[0], rungs[-1]) == ("queued", "succeeded")
        assert len(rungs) == len(cli.ok("command", "watch", "kiosk", made["id"], *site.http)["progress"]["history"])

    def test_following_one_that_does_not_end(self, cli: Cli, site: Site, sent: str) -> None:
        result = cli("command", "watch", "shelf", sent, "--timeout", 0.2, *site.http)
        assert (result.code, "queued" in result.out) == (7, True)

    def test_ctrl_c_ends_following_without_a_fuss(self, site: Site, sent: str, tmp_path: Path) -> None:
        arguments = command("command", "watch", "shelf", sent, *site.http)
        out = tmp_path / "out"
        with out.open("wb") as sink:
            watching = subprocess.Popen(arguments, stdout=sink, stderr=subprocess.PIPE, env=plain_environment())
        until(lambda: b"queued" in out.read_bytes() or watching.poll() is not None, "nothing was shown")
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=30)
        assert (watching.returncode, b"Traceback" in err) == (130, False)

    def test_a_reader_that_has_seen_enough(self, site: Site, tmp_path: Path) -> None:
        listing = command("device", "list", *site.http)
        process = subprocess.Popen(
            listing, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_environment(), cwd=tmp_path
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 1
        assert err in (b"", b"Page 1 of 1\n")


class TestPushes:
    """Pushes."""

    def test_one_that_is_waited_for(self, cli: Cli, site: Site) -> None:
        push = cli.ok(
            "push", "send", "kiosk", "--title", "Hi", "--body", "there", "--data", '{"a":1}', "--wait", 30, *site.http
        )
        assert push["status"] == "acknowledged"
        assert "acknowledged" in cli("push", "get", push["id"], *site.http).out

    def test_a_test_shows_each_step(self, cli: Cli, site: Site) -> None:
        result = cli("push", "test", "kiosk", *site.http)
        assert result.code == 0
        steps = [line.split()[2] for line in result.out.splitlines()[:-1]]
        assert steps == ["queued", "accepted", "acknowledged"]
        assert "It arrived" in result.out
        assert cli("push", "test", "shelf", *site.http).code == 5  # no app is registered there

    def test_a_silent_one(self, cli: Cli, site: Site) -> None:
        made = cli.ok("push", "send", "kiosk", "--body", "x", "--silent", *site.http)
        assert cli.ok("push", "get", made["id"], "--wait", 30, *site.http)["status"] == "acknowledged"

    def test_an_app_that_is_not_there(self, cli: Cli, site: Site) -> None:
        result = cli("push", "send", "kiosk", "--app", "kioskLauncher", "--body", "x", *site.http)
        assert (result.code, "kioskLauncher" in result.err) == (5, True)

    def test_what_is_wrong_is_named(self, cli: Cli, site: Site) -> None:
        assert cli("push", "send", "kiosk", "--body", "x" * 257, *site.http).code == 2
        assert cli("push", "send", "kiosk", "--body", "x", "--data", "[]", *site.http).code == 2
        missing = cli("push", "get", "0" * 24, *site.http)
        assert (missing.code, "push send" in missing.err) == (5, True)


def test_an_agent_for_an_app_that_does_not_exist_ends(site: Site, tmp_path: Path) -> None:
    where = ["--server", site.url, "--state-dir", tmp_path / "agent", "--simulate"]
    secret = {"HELIOGRAPH_AGENT_SECRET": site.shelf["agentSecret"]}
    result = outside("agent", "run", "--app", "foo", *where, folder=tmp_path, **secret)
    assert (result.code, "'foo'" in result.err, "mdmAgent" in result.err) == (2, True, True)


def test_the_key_is_never_shown(cli: Cli, site: Site) -> None:
    cli.seen.clear()
    secret: Any = site.key["secret"]
    calls = (
        ["device", "list"],
        ["key", "list"],
        ["org", "list"],
        ["device", "get", "nobody"],
        ["command", "list", "kiosk"],
    )
    for call in calls:
        cli(*call, *site.http)
        cli(*call, "--json", *site.http)
    gone = ["--url", "http://127.0.0.1:1", "--api-key", secret, "--org", "acme"]
    assert cli("device", "list", *gone).code == 3
    assert secret not in "".join(cli.seen)


def test_a_plan_beside_the_database_leads_there(cli: Cli, site: Site, tmp_path: Path) -> None:
    plan = f'{{"baseUrl":"{site.url}","apiKey":"{site.key["secret"]}","organization":{{"slug":"acme"}}}}'
    (tmp_path / "demo.json").write_text(plan)
    assert outside("command", "list", "kiosk", "--data-dir", tmp_path, folder=tmp_path).code == 0
