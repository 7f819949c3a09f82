"""Passwords and activation codes are nowhere but where they are needed, and only for so long (DECISIONS 25)."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import asyncpg
import pytest

from tests.support.client import Device, Json, Lab, data_of, fault, until
from tests.support.demo import Demo


@pytest.fixture(autouse=True)
def put_back(lab: Lab) -> Iterator[None]:
    """Tests here change the lab."""
    yield
    lab.restore()


@pytest.fixture
def canary() -> str:
    """A secret that nothing else contains."""
    return f"cAnArY-{secrets.token_hex(12)}"


def at_rest(demo: Demo) -> bytes:
    """Everything that the server keeps: the files of its data directory (the lab's apart), or all rows."""
    if demo.database is None:
        kept = [p for p in demo.data_dir.rglob("*") if p.is_file() and demo.data_dir / "lab" not in p.parents]
        assert len(kept) >= 2
        return b"".join(path.read_bytes() for path in kept)
    return "\n".join(asyncio.run(all_rows(demo.database))).encode()


async def all_rows(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        found = [await connection.fetch(f'SELECT CAST(t AS TEXT) FROM "{name[0]}" t') for name in names]
        return [row[0] for rows in found for row in rows]
    finally:
        await connection.close()


async def value(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def sealed(demo: Demo, command: str) -> bytes | None:
    """What the database holds of a command's secret parameters."""
    statement = f"SELECT secret FROM commands WHERE id = '{command}'"
    if demo.database is not None:
        found: bytes | None = asyncio.run(value(demo.database, statement))
        return found
    files = [p for p in demo.data_dir.iterdir() if p.is_file() and p.read_bytes()[:15] == b"SQLite format 3"]
    with closing(sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True)) as connection:
        row: tuple[bytes | None] = connection.execute(statement).fetchone()
        return row[0]


def said(demo: Demo, device: Device, command: str) -> str:
    """All that the API tells about a command."""
    answers = [
        demo.api.get(f"{device.commands}/{command}"),
        demo.api.get(device.commands, limit=10000),
        demo.api.get(f"{device.commands}/{command}/push-status"),
        demo.api.get("mdm/devices", limit=10000),
    ]
    return "\n".join(f"{answer.headers} {answer.text}" for answer in answers)


def bodies(canary: str) -> list[Json]:
    """Commands with a secret."""
    return [
        {"type": "RESET_PASSWORD", "newPassword": canary, "resetPasswordFlags": ["LOCK_NOW"]},
        {"type": "ADD_ESIM", "addEsimParams": {"activationCode": canary, "carrierName": "Carrier"}},
    ]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("name", ["android-online", "android-offline"])
def test_of_an_android_command(name: str, kind: int, canary: str, demo: Demo, lab: Lab) -> None:
    device = demo[name]
    with lab.faults(fault("amapi", ":issueCommand", status=503)):
        created = demo.api.post(device.commands, bodies(canary)[kind])
        command = data_of(created)["id"]
        # Before it is issued it is there, encrypted.
        assert canary not in created.text
        assert canary not in said(demo, device, command)
        assert canary.encode() not in at_rest(demo)
        assert sealed(demo, command)
    record = demo.api.until(device, command, lambda found: found["_config"] != {})
    assert canary not in json.dumps(record)
    assert sealed(demo, command) is None
    assert canary not in demo.api.cancel(device, command).text
    assert canary not in said(demo, device, command)
    assert canary.encode() not in at_rest(demo)
    assert canary not in demo.stderr() + demo.stdout()
    assert [r for r in lab.requests("amapi") if canary in r["body"]]  # Google got it


@pytest.mark.parametrize("status", [400, 404, 501, 503, 403, 500])  # the last may stay unclear for a while
def test_that_google_repeats_in_an_error(status: int, canary: str, demo: Demo, lab: Lab) -> None:
    device = demo["android-offline"]
    error = {"code": status, "status": "INVALID_ARGUMENT", "message": f"newPassword '{canary}' is not good enough"}
    with lab.faults(fault("amapi", ":issueCommand", status=status, body=json.dumps({"error": error}), times=1)):
        command = data_of(demo.api.post(device.commands, bodies(canary)[0]))["id"]
        demo.api.until(device, command, lambda found: len(found["progress"]["history"]) >= 3)
    assert canary not in demo.api.cancel(device, command).text
    assert canary not in said(demo, device, command)
    assert canary.encode() not in at_rest(demo)
    assert canary not in demo.stderr()


@pytest.mark.sqlite_only
def test_that_google_repeats_in_the_operation(canary: str, demo: Demo, lab: Lab) -> None:
    device = demo["android-online"]  # not the one whose last attempt may still be unclear
    name = "enterprises/LC0demo0001/devices/x/operations/1"
    metadata = {"type": "RESET_PASSWORD", "newPassword": canary, "userName": "x", "note": f"set to {canary}"}
    answer = {"name": name, "metadata": metadata, "done": False}
    with lab.faults(fault("amapi", ":issueCommand", status=200, body=json.dumps(answer), times=1)):
        command = data_of(demo.api.post(device.commands, bodies(canary)[0]))["id"]
        path = f"/v1/organizations/{demo.api.organization}/{device.commands}/{command}"
        headers = {"Authorization": f"Bearer {demo.api.key}"}
        answers = [demo.bare.get(path, headers=headers, params={"wait": 1})]  # not as Google: the pins would object
    assert canary not in answers[0].text
    assert canary.encode() not in at_rest(demo)
    demo.bare.post(f"{path}/cancel", headers=headers)


def test_of_an_aosp_command_until_its_result(canary: str, demo: Demo, lab: Lab) -> None:
    agent = demo.api.new_device("aosp")
    agent.register()
    nested = {
        "newPassword": canary,
        "wifi": {"ssid": "x", "password": f"{canary}-2"},
        "list": [{"token": f"{canary}-3"}],
    }
    created = demo.api.post(agent.device.commands, {"command": "RESET_PASSWORD", "params": nested})
    command = data_of(created)["id"]
    assert data_of(created)["params"] == {"wifi": {"ssid": "x"}, "list": [{}]}
    assert canary not in said(demo, agent.device, command)
    assert canary.encode() not in at_rest(demo)
    assert sealed(demo, command)
    for _ in range(2):  # handed out again until it is acknowledged
        assert [found["params"] for found in agent.claim()] == [nested]
    assert sealed(demo, command)
    agent.report(command, "acknowledged")
    agent.report(command, "deferred", retryAfterSeconds=1)
    assert [found["params"] for found in until(agent.claim, bool)] == [nested]
    agent.report(command, "failed", error={"code": "NOPE", "message": "no"})
    assert sealed(demo, command) is None
    assert canary not in said(demo, agent.device, command)
    assert canary.encode() not in at_rest(demo)
    assert canary not in demo.stderr() + demo.stdout()


@pytest.mark.parametrize("name", ["aosp-builtin-online", "aosp-pushy-online"])
def test_of_an_aosp_command_that_runs(name: str, canary: str, demo: Demo, lab: Lab) -> None:
    device = demo[name]
    body = {"command": "RESET_PASSWORD", "params": {"newPassword": canary}}
    command = data_of(demo.api.post(device.commands, body))["id"]
    assert demo.api.over(device, command)["status"] == "DONE"
    assert sealed(demo, command) is None
    assert canary not in said(demo, device, command)
    assert canary.encode() not in at_rest(demo)
    assert canary not in demo.stderr() + demo.stdout()
    assert not [r for r in lab.requests("pushy") if canary in r["body"]]  # a wake-up carries no parameters


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_of_a_command_that_never_left(how: str, canary: str, demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    body = {
        "command": "RESET_PASSWORD",
        "params": {"newPassword": canary},
        "duration": 0.05 if how == "expired" else 60,
    }
    command = data_of(demo.api.post(agent.device.commands, body))["id"]
    if how == "cancelled":
        data_of(demo.api.cancel(agent.device, command))
    demo.api.over(agent.device, command)
    assert sealed(demo, command) is None


def test_keys_and_secrets_are_stored_hashed_and_not_logged(demo: Demo) -> None:
    key = demo.key("mdm.android.device.get")
    agent = demo.api.new_device("ios")
    agent.register()
    assert key.get("mdm/android/enterprise/devices/x").status_code == 404
    secrets_ = [str(key.key), agent.secret]
    kept = at_rest(demo)
    assert [s for s in secrets_ if s.encode() in kept or s in demo.stderr() + demo.stdout()] == []
    assert [s for s in secrets_ if s in json.dumps(demo.api.setup("key.list"))] == []


def test_credentials_of_providers_and_enterprises_are_never_shown(canary: str, demo: Demo) -> None:
    organization = demo.new_organization()
    secret = canary.replace("-", "")
    made = organization.setup("provider.add", provider="pushy", name="x", config={"apiKey": secret})
    assert secret not in json.dumps([made, organization.setup("provider.list")])
    assert secret.encode() not in at_rest(demo)
    answer = organization.post(
        "setup/enterprise.add", {"name": "enterprises/x", "credentials": json.dumps({"private_key": canary})}
    )
    assert canary not in answer.text
    assert canary not in demo.stderr()


@pytest.mark.sqlite_only
def test_the_keys_of_the_demo_do_not_lie_in_its_database(demo: Demo) -> None:
    database = b"".join(p.read_bytes() for p in demo.data_dir.iterdir() if p.is_file() and p.suffix != ".json")
    plan = json.loads((demo.data_dir / "lab/plan.json").read_text())
    hidden = [plan["organization"]["apiKey"], plan["otherOrganization"]["apiKey"], plan["pushyKey"]]
    hidden += [device["secret"] for device in plan["devices"]]
    assert [secret for secret in hidden if secret.encode() in database] == []
    beside = b"".join(p.read_bytes() for p in demo.data_dir.iterdir() if p.is_file())
    assert [secret for secret in hidden[1:] if secret.encode() in beside] == []  # the demo's key may lie there
    private = [demo.data_dir, *demo.data_dir.rglob("*")]
    assert demo.data_dir / "lab" in private
    assert [path for path in private if path.lstat().st_mode & 0o077 and not path.is_symlink()] == []
    assert demo.ready_file.stat().st_mode & 0o077 == 0
