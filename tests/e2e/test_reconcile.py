"""Devices that nobody tells of, commands that wait for the quota: against Google's emulator, on both stores."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Json
from tests.support.crash import ENTERPRISE, Client, LabClient, Rig, Unit, fault, running_rig, until
from tests.support.demo import STORES, new_database

OFTEN = {"HELIOGRAPH_RECONCILE_EVERY_S": "1", "HELIOGRAPH_DEVICE_MISSING_S": "1"}


@pytest.fixture(scope="module", params=STORES)
def comparing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A server that compares devices all the time."""
    folder = tmp_path_factory.mktemp(f"comparing-{request.param}")
    with new_database(request.param, request) as database, running_rig(folder, database, **OFTEN) as rig:
        yield rig


@pytest.fixture(scope="module", params=STORES)
def slow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A server with next to no quota."""
    folder = tmp_path_factory.mktemp(f"slow-{request.param}")
    little = {"HELIOGRAPH_AMAPI_REQUESTS_PER_MINUTE": "2"}
    with new_database(request.param, request) as database, running_rig(folder, database, **little) as rig:
        yield rig


async def state(client: Client, alias: str) -> str | None:
    answer = await client.call("GET", f"mdm/android/enterprise/devices/{alias}")
    return None if answer.status_code != 200 else str(answer.json()["data"]["state"])


async def faults_seen(rig: Rig, client: Client) -> int:
    """How many rounds over devices a fault has ended."""
    key = (await rig.operator("key.create", rig.organization, permissions=["operator.metrics"]))["secret"]
    answer = await client.http.get("/metrics", headers={"Authorization": f"Bearer {key}"})
    lines = [
        line for line in answer.text.splitlines() if line.startswith('heliograph_reconcile_faults{kind="devices"}')
    ]
    return int(float(lines[0].split()[-1])) if lines else 0


async def enrolled(rig: Rig, lab: LabClient, name: str) -> None:
    """A device of which only Google knows."""
    unit = Unit(name, "android", "builtin", secrets.token_hex(12), "none", f"{ENTERPRISE}/devices/{name}")
    rig.specs.append(rig._spec(unit, False, {}))
    await lab.ask("PUT", "/fleet", rig.specs)


async def at_google(rig: Rig, lab: LabClient, method: str, name: str) -> Any:
    url = f"{rig.urls['amapiUrl']}/v1/{name}"
    return await lab.http.request(method, url, headers={"Authorization": "Bearer test"})


async def test_a_device_comes_and_goes_at_google_alone(comparing: Rig) -> None:
    async with comparing.client() as client, comparing.lab_client() as lab:
        await comparing.add("android", 1, online=False)  # so that the list is never empty
        name = f"quiet{comparing.store}"
        await enrolled(comparing, lab, name)

        async def is_there() -> bool:
            return await state(client, name) == "ACTIVE"

        await until(is_there, "it is taken over")
        await lab.faults(fault("amapi", r"/devices$", status=403))
        assert (await at_google(comparing, lab, "DELETE", f"{ENTERPRISE}/devices/{name}")).status_code == 200
        before = await faults_seen(comparing, client)

        async def was_refused() -> bool:
            return await faults_seen(comparing, client) >= before + 3

        await until(was_refused, "three rounds end at the fault")
        assert await state(client, name) == "ACTIVE"  # whoever may not read the list has not seen it gone
        await lab.faults()

        async def is_gone() -> bool:
            return await state(client, name) == "DELETED"

        await until(is_gone, "list after list lacks it")


async def test_a_command_tells_its_turn_while_the_quota_is_used_up(slow: Rig) -> None:
    async with slow.client() as client:
        units = await slow.add("android", 8, online=False)
        made = [await client.create(unit) for unit in units]
        assert all("queue" not in record["progress"] for record in made)

        async def queue() -> list[Json] | None:
            """Once the bucket is empty, between two of the rare tokens."""
            found = [await client.command(unit, record["id"]) for unit, record in zip(units, made, strict=True)]
            turns = [record["progress"]["queue"] for record in found if "queue" in record["progress"]]
            in_order = [turn["position"] for turn in turns] == list(range(1, len(turns) + 1))
            return turns if in_order and len(turns) <= 5 else None

        waiting = await until(queue, "who waits stands in the order of the requests")
        assert waiting[-1]["expectedSeconds"] >= 30 * (len(waiting) - 1)
        await client.cancel(units[-1], made[-1]["id"])
        assert "queue" not in (await client.command(units[-1], made[-1]["id"]))["progress"]
