from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from heliograph_lab.control import control_app
from heliograph_lab.fleet import Fleet
from heliograph_lab.kernel import Kernel
from tests.lab.serving import client_of

DEVICE = {
    "deviceId": "d1",
    "name": "aosp-builtin-online",
    "platform": "aosp",
    "allPlatformId": "p1",
    "serialNumber": "s1",
    "provider": "builtin",
    "online": True,
    "secret": "geheim",
    "apps": ["mdmAgent"],
    "serverUrl": "http://127.0.0.1:9",
    "amapi": None,
}
SHOWN = {
    "deviceId": "d1",
    "name": "aosp-builtin-online",
    "platform": "aosp",
    "provider": "builtin",
    "apps": ["mdmAgent"],
    "online": True,
    "latencyMs": 0,
    "outcome": {"result": "ok", "errorCode": None, "cancel": "wins", "statuses": None},
}


@pytest.fixture
async def api(kernel: Kernel) -> AsyncIterator[httpx2.AsyncClient]:
    async def settled(_device_id: str | None) -> None:
        return

    async with client_of(control_app(kernel, Fleet(kernel), settled)) as client:
        yield client


async def refused(answer: httpx2.Response, status: int, word: str) -> None:
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert word in answer.json()["error"]


async def test_fleet_and_devices(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/health")).json() == {"status": "ok"}
    assert (await api.put("/fleet", json=[DEVICE])).json() == {"items": [SHOWN]}
    assert (await api.get("/devices")).json() == {"items": [SHOWN]}
    changed = await api.put("/devices/d1", json={"online": False, "outcome": {"cancel": "404"}})
    assert changed.json() == {**SHOWN, "online": False, "outcome": {**SHOWN["outcome"], "cancel": "404"}}  # type: ignore[dict-item]
    assert (await api.put("/fleet", json=[DEVICE])).json() == {"items": [changed.json()]}
    assert (await api.get("/devices/d1")).json() == changed.json()


async def test_journal(kernel: Kernel, api: httpx2.AsyncClient) -> None:
    await api.put("/fleet", json=[DEVICE])
    await kernel.journal.write("d1", "executed", command_id="c1", type="LOCK")
    await kernel.journal.write("d1", "displayed", push_id="p1", title="T", body="B", data={"k": 1})
    executed, displayed = (await api.get("/devices/d1/journal")).json()["items"]
    assert executed == {"at": executed["at"], "event": "executed", "commandId": "c1", "type": "LOCK"}
    assert executed["at"].endswith("Z")
    del displayed["at"]
    assert displayed == {"event": "displayed", "pushId": "p1", "title": "T", "body": "B", "data": {"k": 1}}


async def test_refusals(api: httpx2.AsyncClient) -> None:
    await api.put("/fleet", json=[DEVICE])
    await refused(await api.put("/devices/nobody", json={"online": True}), 404, "nobody")
    await refused(await api.get("/devices/nobody/journal"), 404, "nobody")
    await refused(await api.put("/devices/d1", json={"online": "yes"}), 400, "online")
    await refused(await api.put("/devices/d1", content=b"{"), 400, "JSON")
    await refused(await api.put("/fleet", json=[{"deviceId": "x"}]), 400, "name")
    await refused(await api.put("/clock", json={"advanceSeconds": -1}), 400, "clock")
    await refused(await api.put("/clock", json={"advanceSeconds": "1"}), 400, "advanceSeconds")
    await refused(await api.get("/requests", params={"service": "smtp"}), 400, "service")
    await refused(await api.get("/nothing"), 404, "/nothing")
    await refused(await api.post("/devices", json={}), 405, "POST")
    assert (await api.get("/devices")).json() == {"items": [SHOWN]}


async def test_faults(api: httpx2.AsyncClient) -> None:
    rules: list[dict[str, Any]] = [
        {"service": "amapi", "match": {"path": ":cancel$"}, "action": {"status": 429, "retryAfter": 2}, "times": 3},
        {"service": "pushy", "match": {"method": "POST"}, "action": {"cut": "after"}},
        {"service": "pushy", "action": {"delayMs": 5000}},
    ]
    assert (await api.put("/faults", json=rules)).status_code == 200
    kept = (await api.get("/faults")).json()
    assert [rule["action"] for rule in kept] == [rule["action"] for rule in rules]
    await refused(await api.put("/faults", json=[{"service": "amapi", "action": {}}]), 400, "[0]")
    assert (await api.get("/faults")).json() == kept
    assert (await api.delete("/faults")).json() == []
    assert (await api.get("/faults")).json() == []


async def test_clock_and_requests(kernel: Kernel, api: httpx2.AsyncClient) -> None:
    before = kernel.clock.now()
    answer = (await api.put("/clock", json={"advanceSeconds": 86_400})).json()
    assert answer["offsetSeconds"] == 86_400
    assert (kernel.clock.now() - before).total_seconds() >= 86_400
    kernel.requests.record("amapi", method="GET", path="/v1/x", query="a=1", headers={"h": "v"}, body=b"secret")
    (item,) = (await api.get("/requests", params={"service": "amapi"})).json()["items"]
    assert item.pop("at")
    assert item == {"method": "GET", "path": "/v1/x", "query": "a=1", "headers": {"h": "v"}, "body": "secret"}
    assert (await api.get("/requests", params={"service": "pushy"})).json() == {"items": []}
