"""Set-up on the database itself, while no server runs."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from heliograph.cli.node import unknown_variables
from tests.cli.rig import Cli, Result

HERE = ["--data-dir", "data"]


@pytest.fixture
def acme(cli: Cli) -> dict[str, Any]:
    made: dict[str, Any] = cli.ok("org", "create", "acme", "--name", "Acme Ltd", *HERE)
    return made


def test_the_first_organization_and_key(cli: Cli, acme: dict[str, Any]) -> None:
    assert (acme["slug"], acme["name"], len(acme["id"])) == ("acme", "Acme Ltd", 24)
    key = cli.ok(
        "key", "create", "--permission", "mdm.android.*,mdm.aosp.*", "--permission", "*", "--expires", "30d", *HERE
    )
    assert key["permissions"] == ["mdm.android.*", "mdm.aosp.*", "*"]
    lasts = datetime.fromisoformat(key["expiresAt"]) - datetime.fromisoformat(key["createdAt"])
    assert lasts == timedelta(days=30)
    assert key["secret"].startswith("hlg_")


def test_secrets_are_shown_once(cli: Cli, acme: dict[str, Any]) -> None:
    created = cli("key", "create", "--permission", "*", *HERE)
    [secret] = [line.split()[-1] for line in created.out.splitlines() if line.startswith("secret")]
    added = cli("device", "add", "--platform", "aosp", *HERE)
    [agent_secret] = [line.split()[-1] for line in added.out.splitlines() if line.startswith("agent secret")]
    Path("pushy.key").write_text("canarykey0123456789\n")
    cli.ok("provider", "add", "pushy", "--set", "apiKey=@pushy.key", *HERE)
    cli.seen.clear()
    for command in (["key", "list"], ["provider", "list"], ["enterprise", "list"], ["org", "list"]):
        for form in ([], ["--json"]):
            assert cli(*command, *form, *HERE).code == 0
    assert [s for s in (secret, agent_secret, "canarykey0123456789") if s in "".join(cli.seen)] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["org", "create", "acme"], 2, "taken"),
        (["org", "create", "a b"], 2, "slug"),
        (["org", "update", "acme", "--feature", "aospCommands"], 2, "NAME=on"),
        (["org", "update", "acme", "--feature", "nonsense=on"], 2, "feature"),
        (["org", "update", "other", "--feature", "aospCommands=on"], 5, "other"),
        (["key", "create", "--permission", "everything"], 2, "permissions"),
        (["key", "create", "--permission", ","], 2, "permissions"),
        (["key", "create", "--permission", "*", "--expires", "soon"], 2, "--expires"),
        (["key", "create", "--permission", "*", "--org", "other"], 5, "other"),
        (["key", "revoke", "0" * 24], 5, "key list"),
        (["device", "add", "--platform", "android"], 2, "enterprise add"),
        (["device", "secret", "0" * 24], 5, "heliograph device list"),
        (["provider", "add", "nonsense"], 2, "must be one of "),
        (["provider", "add", "pushy"], 2, "--set apiKey=@FILE"),
        (["device", "pull", "enterprises/LC9"], 5, "heliograph enterprise list"),
        (["provider", "add", "pushy", "--config", "[]"], 2, "--config"),
        (["provider", "add", "pushy", "--config", "{}", "--config-file", "-"], 2, "either"),
        (["provider", "add", "pushy", "--set", "apiKey"], 2, "--set"),
        (["provider", "test", "0" * 24], 5, "heliograph provider list"),
        (["enterprise", "add", "nonsense"], 2, "enterprises/"),
        (["enterprise", "add", "enterprises/LC1", "--credentials", "missing"], 2, "missing"),
        (["device", "import", "missing"], 2, "missing"),
    ],
)
def test_what_is_refused_says_why(cli: Cli, acme: dict[str, Any], arguments: list[str], code: int, words: str) -> None:
    plain = cli(*arguments, *HERE)
    assert (plain.code, plain.out) == (code, "")
    assert words in plain.err
    result = cli(*arguments, *HERE, "--json")
    assert (result.code, result.out, result.error["exitCode"]) == (code, "", code)


def test_a_key_ends(cli: Cli, acme: dict[str, Any]) -> None:
    cli.ok("org", "create", "other", *HERE)
    key = cli.ok("key", "create", "--permission", "*", "--org", "other", *HERE)
    assert cli.ok("key", "revoke", key["id"], *HERE)["revoked"]  # found without naming the organization
    [listed] = cli.ok("key", "list", "--org", "other", *HERE)["items"]
    assert listed["revokedAt"]
    assert "revoked" in cli("key", "list", "--org", "other", *HERE).out


def test_with_several_organizations_one_has_to_be_named(cli: Cli, acme: dict[str, Any]) -> None:
    cli.ok("org", "create", "other", *HERE)
    result = cli("key", "list", *HERE)
    assert (result.code, "acme|other" in result.err) == (2, True)
    Path("data/demo.json").write_text('{"organization":{"slug":"other"}}')
    assert cli("key", "list", *HERE).code == 0


@pytest.mark.parametrize("verb", [["org", "list"], ["key", "list"], ["device", "add", "--platform", "aosp"]])
def test_a_slip_in_a_path_makes_no_installation(cli: Cli, verb: list[str]) -> None:
    result = cli(*verb, *HERE)
    assert (result.code, "no database in data" in result.err, Path("data").exists()) == (5, True, False)


def test_the_first_organization_begins_an_installation_that_others_cannot_read(cli: Cli) -> None:
    begun = cli("org", "create", "acme", *HERE)
    assert (begun.code, "no database in data" in begun.err) == (0, True)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (Path("data"), Path("data/secret.key"))] == [0o700, 0o600]
    assert cli("org", "create", "other", *HERE).err == ""


def test_without_an_organization_it_says_so(cli: Cli) -> None:
    cli.ok("db", "migrate", *HERE)
    result = cli("key", "list", *HERE)
    assert (result.code, "org create" in result.err) == (2, True)


def test_features_are_switched_all_or_none(cli: Cli, acme: dict[str, Any]) -> None:
    result = cli("org", "update", "acme", "--feature", "aospCommands=off", "--feature", "nonsense=on", *HERE)
    assert (result.code, "pushNotifications" in result.err) == (2, True)
    assert [o["features"] for o in cli.ok("org", "list", *HERE)["items"]] == [acme["features"]]


def test_features_are_switched(cli: Cli, acme: dict[str, Any]) -> None:
    off = cli.ok("org", "update", "acme", "--feature", "aospCommands=off", "--feature", "androidCommands=off", *HERE)
    assert off["features"] == {"aospCommands": False, "androidCommands": False}
    assert cli.ok("org", "update", acme["id"], "--feature", "aospCommands=on", *HERE)["features"]["aospCommands"]
    assert "androidCommands" in cli("org", "list", *HERE).out


def test_settings_of_a_provider_come_from_where_nobody_looks(
    cli: Cli, acme: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("config").write_text('{"apiKey":"abc123"}')
    first = cli.ok("provider", "add", "pushy", "--config-file", "config", *HERE)
    second = cli.ok("provider", "add", "pushy", "--config", '{"apiKey":"x"}', "--set", "apiKey=y", "--default", *HERE)
    assert (first["default"], second["default"]) == (True, True)
    assert [a["default"] for a in cli.ok("provider", "list", *HERE)["items"]] == [False, True]


def test_devices_are_imported(cli: Cli, acme: dict[str, Any]) -> None:
    Path("fleet.csv").write_text("platform,serial\n" + "".join(f"aosp,S{n}\n" for n in range(120)))
    items = cli.ok("device", "import", "fleet.csv", *HERE)["items"]
    assert [(i["index"], i["serialNumber"]) for i in items] == [(n, f"S{n}") for n in range(120)]
    assert len({i["agentSecret"] for i in items}) == 120


def test_an_import_that_is_repeated_adds_nothing_twice(cli: Cli, acme: dict[str, Any]) -> None:
    cli.ok("enterprise", "add", "enterprises/LC1", *HERE)
    named = "enterprises/LC1/devices/d1"
    Path("fleet.json").write_text(
        json.dumps([{"platform": "android", "externalName": named}, {"platform": "aosp", "serialNumber": "S1"}])
    )
    first = cli.ok("device", "import", "fleet.json", *HERE)["items"]
    again = cli("device", "import", "fleet.json", "--json", *HERE)
    assert again.code == 1
    assert [found["id"] in item["error"] for found, item in zip(first, again.json["items"], strict=True)] == [True] * 2
    Path("other.json").write_text(json.dumps([{"platform": "package", "serialNumber": "S1"}]))
    cli.ok("device", "import", "other.json", *HERE)  # another platform's


def test_what_cannot_be_imported_does_not_stop_the_rest(cli: Cli, acme: dict[str, Any]) -> None:
    Path("fleet.json").write_text(json.dumps([{"platform": "aosp"}, {"platform": "toaster"}, {"platform": "package"}]))
    result = cli("device", "import", "fleet.json", "--json", *HERE)
    assert (result.code, "1 of 3" in result.error["message"]) == (1, True)
    assert [("error" in i, i["index"]) for i in result.json["items"]] == [(False, 0), (True, 1), (False, 2)]
    assert "not added: Invalid input: platform" in cli("device", "import", "fleet.json", *HERE).out


def test_migrations(cli: Cli) -> None:
    missing = cli("db", "status", *HERE)
    assert (missing.code, Path("data").exists()) == (5, False)
    applied = cli.ok("db", "migrate", *HERE)["applied"]
    assert applied[0] == {"number": 1, "name": "initial"}
    assert cli.ok("db", "migrate", *HERE) == {"applied": []}
    status = cli.ok("db", "status", *HERE)
    assert (status["database"], status["pending"], len(status["migrations"])) == ("sqlite", 0, len(applied))
    assert status["migrations"][0]["appliedAt"].endswith("Z")


class TestLostKey:
    """The secret key is lost."""

    @pytest.fixture
    def lost(self, cli: Cli, acme: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        cli.ok("provider", "add", "pushy", "--config", '{"apiKey":"abc123"}', "--name", "ours", *HERE)
        monkeypatch.setenv("HELIOGRAPH_SECRET_KEY", base64.b64encode(b"x" * 32).decode())

    def test_nothing_runs_with_another_key(self, cli: Cli, lost: None) -> None:
        result = cli("org", "list", *HERE)
        assert (result.code, "forget-secrets" in result.err) == (1, True)

    def test_a_lost_file_is_not_replaced(self, cli: Cli, acme: dict[str, Any]) -> None:
        Path("data/secret.key").unlink()
        for verb in (["org", "list"], ["serve", "all", "--port", "0"]):
            result = cli(*verb, "--data-dir", "data")
            assert (result.code, "secret.key is missing in data" in result.err) == (1, True)
            assert "forget-secrets" in result.err
        assert not Path("data/secret.key").exists()
        cli.ok("db", "forget-secrets", "--yes", *HERE)
        assert cli("org", "list", *HERE).code == 0

    def test_forgetting_has_to_be_confirmed(self, cli: Cli, lost: None) -> None:
        result = cli("db", "forget-secrets", *HERE)
        assert (result.code, "--yes" in result.err) == (1, True)
        assert cli("org", "list", *HERE).code == 1

    def test_after_forgetting_it_runs_again(self, cli: Cli, lost: None) -> None:
        [forgotten] = cli.ok("db", "forget-secrets", "--yes", *HERE)["forgotten"]
        account = forgotten.pop("id")
        assert forgotten == {"organization": "acme", "kind": "pushy", "name": "ours"}
        assert cli("org", "list", *HERE).code == 0
        assert "lost with the secret key" in cli("provider", "list", *HERE).out
        assert cli("doctor", *HERE).code == 1
        assert cli.ok("provider", "update", account, "--set", "apiKey=abc123", *HERE)["fault"] is None
        assert cli("doctor", *HERE).code == 0

    def test_the_right_key_forgets_nothing(self, cli: Cli, acme: dict[str, Any]) -> None:
        result = cli("db", "forget-secrets", "--yes", *HERE)
        assert (result.code, "nothing is lost" in result.err) == (1, True)

    def test_an_unusable_key_is_wrong_use(self, cli: Cli, lost: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HELIOGRAPH_SECRET_KEY", "canary-short")
        result = cli("db", "forget-secrets", "--yes", *HERE)
        assert (result.code, "canary-short" in result.err) == (2, False)


class TestPushAccounts:
    """What the doctor knows of accounts at push providers."""

    def test_one_in_order_and_one_that_is_disabled(self, cli: Cli, acme: dict[str, Any]) -> None:
        made = cli.ok("provider", "add", "pushy", "--config", '{"apiKey":"abc123"}', "--name", "ours", *HERE)
        shown = {s["detail"] for s in cli.ok("doctor", *HERE)["checks"] if s["step"] == "push account"}
        assert shown == {"pushy ours of acme: no fault is known"}
        assert cli.ok("provider", "disable", made["id"], *HERE)["disabled"]
        shown = {s["detail"] for s in cli.ok("doctor", *HERE)["checks"] if s["step"] == "push account"}
        assert shown == {"pushy ours of acme is disabled"}

    def test_one_that_its_provider_refuses(self, cli: Cli, acme: dict[str, Any]) -> None:
        made = cli.ok("provider", "add", "pushy", "--config", '{"apiKey":"abc123"}', *HERE)
        with closing(sqlite3.connect("data/heliograph.db")) as database, database:
            database.execute("UPDATE provider_accounts SET fault = 'the key is refused', fault_at = 1")
        result = cli("doctor", *HERE)
        assert (result.code, f"provider test {made['id']}" in result.out.replace("\n", " ")) == (1, True)
        assert "out of order" in cli("provider", "list", *HERE).out

    def test_credentials_that_end_soon(self, cli: Cli, acme: dict[str, Any]) -> None:
        cli.ok("provider", "add", "pushy", "--config", '{"apiKey":"abc123"}', *HERE)
        soon = (time.time_ns() // 1000) + 5 * 86_400 * 1_000_000
        with closing(sqlite3.connect("data/heliograph.db")) as database, database:
            database.execute("UPDATE provider_accounts SET expires_at = ?", (soon,))
        [step] = [s for s in cli.ok("doctor", *HERE)["checks"] if s["step"] == "push account"]
        assert (step["state"], "its credentials end in 5 d" in step["detail"]) == ("warning", True)
        assert "credentials end in 5 d" in cli("provider", "list", *HERE).out


class TestRotatedKey:
    """The secret key is replaced while the server is down."""

    @pytest.fixture
    def account(self, cli: Cli, acme: dict[str, Any]) -> str:
        made = cli.ok("provider", "add", "pushy", "--config", '{"apiKey":"abc123"}', "--name", "ours", *HERE)
        return str(made["id"])

    def settings(self, cli: Cli, account: str) -> list[str]:
        """Known only to who can open what is stored."""
        return list(cli.ok("provider", "get", account, *HERE)["settings"])

    def test_everything_is_sealed_again(self, cli: Cli, account: str) -> None:
        before, old = self.settings(cli, account), Path("data/secret.key").read_bytes()
        answer = cli.ok("db", "rotate-key", "--yes", *HERE)
        assert (answer["sealedAgain"], answer["unreadable"]) == (1, 0)
        assert Path("data/secret.key").read_bytes() != old
        assert Path("data/secret.key").stat().st_mode & 0o777 == 0o600
        assert not Path("data/secret.key.next").exists()
        assert self.settings(cli, account) == before
        Path("data/secret.key").write_bytes(old)
        assert cli("org", "list", *HERE).code == 1

    def test_it_has_to_be_confirmed(self, cli: Cli, account: str) -> None:
        old = Path("data/secret.key").read_bytes()
        assert cli("db", "rotate-key", *HERE).code == 1
        assert Path("data/secret.key").read_bytes() == old

    @pytest.mark.parametrize("again", [("db", "rotate-key", "--yes"), ("org", "list")])
    def test_killed_behind_the_database_it_is_finished_later(
        self, again: tuple[str, ...], cli: Cli, account: str
    ) -> None:
        old = Path("data/secret.key").read_bytes()
        cli.ok("db", "rotate-key", "--yes", *HERE)
        Path("data/secret.key").rename("data/secret.key.next")
        Path("data/secret.key").write_bytes(old)
        assert cli(*again, *HERE).code == 0
        assert "apiKey" in self.settings(cli, account)
        assert Path("data/secret.key").read_bytes() != old

    def test_killed_before_the_database_nothing_has_happened(self, cli: Cli, account: str) -> None:
        following = base64.b64encode(b"n" * 32)
        Path("data/secret.key.next").write_bytes(following)
        assert "apiKey" in self.settings(cli, account)
        cli.ok("db", "rotate-key", "--yes", *HERE)
        assert Path("data/secret.key").read_bytes() == following
        assert "apiKey" in self.settings(cli, account)

    def test_a_key_in_the_environment_is_replaced_by_one_from_there(
        self, cli: Cli, account: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HELIOGRAPH_SECRET_KEY", Path("data/secret.key").read_text())
        assert cli("db", "rotate-key", "--yes", *HERE).code == 2
        fresh = base64.b64encode(b"f" * 32).decode()
        monkeypatch.setenv("HELIOGRAPH_NEW_SECRET_KEY", fresh)
        cli.ok("db", "rotate-key", "--yes", *HERE)
        assert cli("org", "list", *HERE).code == 1
        monkeypatch.setenv("HELIOGRAPH_SECRET_KEY", fresh)
        assert "apiKey" in self.settings(cli, account)

    def test_another_key_rotates_nothing(self, cli: Cli, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HELIOGRAPH_SECRET_KEY", base64.b64encode(b"x" * 32).decode())
        monkeypatch.setenv("HELIOGRAPH_NEW_SECRET_KEY", base64.b64encode(b"f" * 32).decode())
        result = cli("db", "rotate-key", "--yes", *HERE)
        assert (result.code, "not the one that belongs" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HELIOGRAPH_PORT", "canary"),
        ("HELIOGRAPH_DATABASE", "canary"),
        ("HELIOGRAPH_LEASE_S", "canary"),
        ("HELIOGRAPH_LOG_LEVEL", "canary"),
        ("HELIOGRAPH_AMAPI_URL", "canary"),
        ("HELIOGRAPH_SECRET_KEY", "canary"),
        ("HELIOGRAPH_TRUSTED_PROXIES", "canary"),
        ("HELIOGRAPH_TRUSTED_PROXIES", "127.0.0.1, 10.1.0.0/99"),
        ("HELIOGRAPH_TRUSTED_PROXIES", "10.0.0.1/8"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    result = cli("org", "create", "acme", "--data-dir", "data")
    assert (result.code, name in result.err, value in result.err) == (2, True, False)
    assert "--" not in result.err.replace("--database", "")  # no flag that does not exist


@pytest.mark.parametrize("value", ["*", "127.0.0.1,::1", "10.0.0.0/8, 192.168.1.7", ""])
def test_proxies_that_can_be_trusted(cli: Cli, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HELIOGRAPH_TRUSTED_PROXIES", value)
    monkeypatch.setenv("HELIOGRAPH_LOG_LEVEL", "warning")
    cli.ok("org", "create", "acme", *HERE)


def test_variables_that_are_no_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROT", "NONSENSE", "URL", "API_KEY", "ORG", "LAB_URL", "AGENT_SECRET", "PORT"):
        monkeypatch.setenv(f"HELIOGRAPH_{name}", "1")
    assert unknown_variables() == [
        "HELIOGRAPH_NONSENSE is no setting and has no effect",
        "HELIOGRAPH_PROT is no setting and has no effect; did you mean HELIOGRAPH_PORT?",
    ]


def test_a_directory_that_cannot_be_used_is_told(cli: Cli) -> None:
    Path("data").write_text("a file")
    result: Result = cli("serve", "all", "--port", "0", *HERE)
    assert (result.code, "--data-dir" in result.err, result.err.count("\n")) == (3, True, 1)


def test_a_device_is_shown_with_the_id_that_lists_show(cli: Cli, acme: dict[str, Any]) -> None:
    added = cli("device", "add", "--platform", "aosp", *HERE).out
    shown = {line[:15].strip(): line[15:].strip() for line in added.splitlines()}
    assert set(shown) == {"id", "platform's id", "name", "platform", "agent secret"}
    json_form = cli.ok("device", "add", "--platform", "package", *HERE)
    assert json_form["id"] == json_form["allPlatformId"]


def test_yes_and_no_are_words(cli: Cli, acme: dict[str, Any]) -> None:
    config = ["--config", '{"apiKey":"abc123"}']
    shown = [cli("provider", "add", "pushy", *config, *HERE).out.splitlines() for _ in range(2)]
    assert [line.split() for lines in shown for line in lines if line.startswith("default")] == [
        ["default", "yes"],
        ["default", "no"],
    ]


def test_a_provider_that_cannot_be_reached_is_told_with_what_to_look_at(cli: Cli, acme: dict[str, Any]) -> None:
    config = '{"apiKey":"abc123","baseUrl":"http://127.0.0.1:1"}'
    account = cli.ok("provider", "add", "pushy", "--config", config, *HERE)
    result = cli("provider", "test", account["id"], *HERE)
    assert (result.code, "cannot reach the provider" in result.err, "proxy" in result.err) == (1, True, True)
