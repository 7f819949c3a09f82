from __future__ import annotations

from typing import Any

import httpx2
import pytest

from heliograph_lab.faults import FaultError, Faults
from heliograph_lab.kernel import Kernel
from heliograph_lab.web import Reply, Request, Router
from tests.lab.serving import client_of


def _raise(_request: Request, error: Exception) -> Reply:
    raise error


class Counter:
    """An emulator that counts what it carries out."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.app = Router(on_error=_raise, no_route=lambda _request, _exists: Reply({"none": True}, 404))
        self.app.add("POST", "/v1/things/{thing}", self.post)

    async def post(self, request: Request) -> Reply:
        self.bodies.append(request.body)
        return Reply({"count": len(self.bodies)})


def rule(action: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"service": "pushy", "action": action, **more}


async def test_status_is_in_the_providers_shape_and_not_carried_out(kernel: Kernel) -> None:
    counter = Counter()
    app = kernel.service("pushy", counter.app, lambda status: {"code": "SLOW", "was": status})
    kernel.faults.replace([rule({"status": 429, "retryAfter": 2}, times=1)])
    async with client_of(app) as client:
        refused = await client.post("/v1/things/a", content=b"x")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert refused.json() == {"code": "SLOW", "was": 429}
        assert (await client.post("/v1/things/a")).json() == {"count": 1}


async def test_garbage_body(kernel: Kernel) -> None:
    kernel.faults.replace([rule({"status": 502, "body": "<html>Bad gateway</html>"})])
    async with client_of(kernel.service("pushy", Counter().app)) as client:
        answer = await client.post("/v1/things/a")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text == "<html>Bad gateway</html>"


@pytest.mark.parametrize(("cut", "carried_out"), [("before", 0), ("after", 1)])
async def test_cut_drops_the_connection(kernel: Kernel, cut: str, carried_out: int) -> None:
    counter = Counter()
    kernel.faults.replace([rule({"cut": cut}, times=1)])
    async with client_of(kernel.service("pushy", counter.app)) as client:
        with pytest.raises(httpx2.TransportError):
            await client.post("/v1/things/a", content=b"secret")
        assert len(counter.bodies) == carried_out
        assert (await client.post("/v1/things/a")).status_code == 200
    assert [item.body for item in kernel.requests.items("pushy")] == ["secret", ""]


async def test_delay_carries_out_and_answers_late(kernel: Kernel) -> None:
    counter = Counter()
    kernel.faults.replace([rule({"delayMs": 60_000})])
    async with client_of(kernel.service("pushy", counter.app)) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post("/v1/things/a", timeout=0.3)
    assert len(counter.bodies) == 1


async def test_requests_are_recorded_as_they_came(kernel: Kernel) -> None:
    kernel.faults.replace([rule({"status": 500}, times=1)])
    async with client_of(kernel.service("pushy", Counter().app)) as client:
        await client.post("/v1/things/a%3Ab?api_key=s%20cret", content=b'{"p":"geheim"}', headers={"X-One": "1"})
    (item,) = kernel.requests.items("pushy")
    assert (item.method, item.path, item.query) == ("POST", "/v1/things/a:b", "api_key=s%20cret")
    assert (item.body, item.headers["x-one"]) == ('{"p":"geheim"}', "1")


def test_match_by_method_and_decoded_path() -> None:
    faults = Faults()
    faults.replace([rule({"status": 500}, match={"method": "post", "path": r":cancel$"}, times=2)])
    assert faults.match("pushy", "GET", "/v1/x:cancel") is None
    assert faults.match("amapi", "POST", "/v1/x:cancel") is None
    assert faults.match("pushy", "POST", "/v1/x:cancel/y") is None
    assert faults.match("pushy", "POST", "/v1/x:cancel") is not None
    assert [left.times for left in faults.rules()] == [1]
    assert faults.match("pushy", "POST", "/v1/x:cancel") is not None
    assert faults.match("pushy", "POST", "/v1/x:cancel") is None


async def test_match_by_body(kernel: Kernel) -> None:
    kernel.faults.replace([rule({"status": 500}, match={"body": "^x.z$"})])
    async with client_of(kernel.service("pushy", Counter().app)) as client:
        assert (await client.post("/v1/things/a", content=b"xyz")).status_code == 500
        assert (await client.post("/v1/things/a", content=b"xz\xff")).status_code == 200


def test_without_times_until_cleared() -> None:
    faults = Faults()
    faults.replace([rule({"cut": "before"})])
    assert all(faults.match("pushy", "GET", "/") for _ in range(100))
    faults.clear()
    assert faults.match("pushy", "GET", "/") is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "must be a list"),
        ([rule({})], "needs status, delayMs or cut"),
        ([rule({"reset": "CANCEL"})], "reset: only for apns and fcm"),
        ([rule({"silence": True})], "silence: only for apns and fcm"),
        ([rule({"goAway": {}})], "goAway: only for apns and fcm"),
        ([rule({"status": 400, "reason": "X"})], "reason: only for apns and fcm"),
        ([{"service": "apns", "action": {"reset": "LOUD"}}], "reset: must be one of NO_ERROR"),
        ([{"service": "fcm", "action": {"goAway": {"code": "x"}}}], "goAway.code: must be one of"),
        ([{"service": "fcm", "action": {"silence": True, "cut": "after"}}], "cut and silence exclude each other"),
        ([{"service": "fcm", "action": {"reset": "CANCEL", "reason": "X"}}], "reason need a status"),
        ([rule({"status": 500}, match={"body": "("})], "match.body: not a regular expression"),
        ([rule({"status": 500}), rule({"status": 99})], r"\[1\].action.status: must be 200 to 599"),
        ([rule({"status": 500, "cut": "after"})], "exclude each other"),
        ([rule({"delayMs": 1, "retryAfter": 2})], "need a status"),
        ([rule({"cut": "between"})], "cut"),
        ([rule({"status": 500}, times=0)], "times: must be 1 or more"),
        ([rule({"status": 500}, match={"path": "("})], "not a regular expression"),
        ([rule({"status": 500}, match={"host": "x"})], "host"),
        ([{"service": "ftp", "action": {"status": 500}}], "service: must be one of"),
        ([rule({"status": 500}, colour="red")], "colour"),
    ],
)
def test_bad_rules_change_nothing(bad: Any, message: str) -> None:
    faults = Faults()
    faults.replace([rule({"status": 503})])
    with pytest.raises(FaultError, match=message):
        faults.replace(bad)
    assert [kept.action.status for kept in faults.rules()] == [503]
