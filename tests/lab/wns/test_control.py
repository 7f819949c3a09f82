"""The control API's part: limits, scripts of a channel, faults."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.lab.wns.conftest import CACHED, SID, STORE, World, said


async def test_limits(world: World) -> None:
    uri, other = await world.wns.register(SID, "d1"), await world.wns.register(SID, "d2")
    await world.control.put("/settings", json={"wns": {"channelPerMinute": 1, "appPerMinute": 3, "retryAfter": 7}})
    await world.kernel.clock.advance(60)
    assert [said(await world.push(to, CACHED))[:2] for to in (uri, uri, other)] == [
        (200, "received"),
        (200, "channelthrottled"),
        (200, "received"),
    ]
    refused = await world.push(other, CACHED)
    assert said(refused)[:2] == (406, "appthrottled")
    assert refused.headers["retry-after"] == "7"
    await world.kernel.clock.advance(60)
    assert said(await world.push(uri, CACHED))[:2] == (200, "received")


async def test_a_script_answers_first(world: World) -> None:
    channel = (await world.control.post("/wns/channels", json={"app": SID})).json()
    script = [
        {"wnsStatus": "dropped", "times": 2},
        {"status": 410, "description": "Domain Blocked"},
        {"status": 503, "retryAfter": 9},
        {},
    ]
    shown = (await world.control.put(f"/wns/channels/{channel['id']}", json={"script": script})).json()
    assert len(shown["script"]) == 4
    answers = [await world.push(channel["uri"], CACHED) for _ in range(6)]
    assert [said(answer)[:2] for answer in answers] == [
        (200, "dropped"),
        (200, "dropped"),
        (410, None),
        (503, None),
        (200, None),
        (200, "received"),
    ]
    assert answers[2].headers["x-wns-error-description"] == "Domain Blocked"
    assert answers[3].headers["retry-after"] == "9"
    (kept,) = (await world.control.get("/wns/channels")).json()["items"]
    assert (kept["waiting"], kept["online"], kept["script"]) == (["raw"], False, [])


async def test_a_channel_ends_before_its_time(world: World) -> None:
    channel = (await world.control.post("/wns/channels", json={"app": SID})).json()
    await world.push(channel["uri"], CACHED)
    shown = (await world.control.put(f"/wns/channels/{channel['id']}", json={"state": "expired"})).json()
    assert (shown["state"], shown["waiting"]) == ("expired", [])
    assert (await world.push(channel["uri"])).status_code == 410


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/wns/channels/none", {}),
        ("POST", "/wns/channels", {"app": ""}),
        ("PUT", "/wns/apps", [{"clientId": "x"}]),
        ("PUT", "/settings", {"wns": {"toastsKept": -1}}),
    ],
)
async def test_wrong_requests_change_nothing(world: World, method: str, path: str, body: Any) -> None:
    answer = await world.control.request(method, path, json=body)
    assert answer.status_code == 400
    assert "error" in answer.json()
    assert (await world.control.get("/wns/channels")).json() == {"items": []}


@pytest.mark.parametrize("step", [{"status": 99}, {"times": 0}, {"wnsStatus": "lost"}, {"description": "a\r\nb"}])
async def test_wrong_scripts(world: World, step: dict[str, Any]) -> None:
    channel = (await world.control.post("/wns/channels", json={"app": SID})).json()
    answer = await world.control.put(f"/wns/channels/{channel['id']}", json={"script": [step]})
    assert answer.status_code == 400


async def test_faults_and_the_record_of_requests(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    rules = [
        {"service": "wns", "match": {"path": "^/$"}, "action": {"status": 406, "retryAfter": 3}, "times": 1},
        {"service": "wns", "match": {"path": "accesstoken"}, "action": {"status": 503}, "times": 1},
        {"service": "wns", "action": {"cut": "after"}, "times": 1},
    ]
    assert (await world.control.put("/faults", json=rules)).status_code == 200
    refused = await world.push(uri)
    assert (refused.status_code, refused.headers["retry-after"]) == (406, "3")
    assert (await world.login()).json()["error"] == "temporarily_unavailable"
    with pytest.raises(httpx2.TransportError):
        await world.push(uri, CACHED)
    assert len(world.wns.store.waiting(uri.partition("=")[2])) == 1
    items = (await world.control.get("/requests?service=wns")).json()["items"]
    assert [item["path"] for item in items] == [STORE, "/", STORE, "/"]
    assert items[-1]["headers"]["authorization"] == f"Bearer {world.bearer}"
