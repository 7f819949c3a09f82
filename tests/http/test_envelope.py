"""Envelope, ids, time, paths, request ids (DECISIONS 1 to 6)."""

from __future__ import annotations

import json
import re

import pytest

from tests.http.routes import ALL, Known, path_of, request
from tests.support.client import error_of, until
from tests.support.contract import operations
from tests.support.demo import Demo
from tests.support.raw import chunk, connect, exchange, head

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def authorized(demo: Demo) -> tuple[str, str]:
    return "Authorization", f"Bearer {demo.api.key}"


# ---------------------------------------------------------------- 1, 2, 3


@pytest.mark.sqlite_only
def test_an_answer_is_compact_json_in_utf_8(demo: Demo, known: Known) -> None:
    shown = "Gerät 🛰"
    device = demo.api.new_device("ios", shown)
    answer = demo.api.get(f"mdm/devices/{device.device.id}")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.content == json.dumps(answer.json(), separators=(",", ":"), ensure_ascii=False).encode()
    assert shown.encode() in answer.content
    refusal = demo.api.get("no/such/route")
    assert refusal.content == b'{"status":false,"error":{"code":1002,"message":"Route not found"}}'


def test_creation_answers_200_with_the_stored_record(demo: Demo, known: Known) -> None:
    answer = request("createAosCommand", demo.api, known)
    assert answer.status_code == 200
    record = answer.json()["data"]
    assert demo.api.command(known.aosp, record["id"])["createdAt"] == record["createdAt"]


def test_ids_are_in_the_order_of_creation(demo: Demo, known: Known) -> None:
    ids = [demo.api.create(known.aosp, "LOCK")["id"] for _ in range(5)]
    assert ids == sorted(ids)
    assert all(re.fullmatch("[0-9a-f]{24}", found) for found in ids)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", ["getEmmCommand", "getAosCommand", "getAosCommandPushStatus", "getDevice"])
def test_path_ids_are_read_in_any_case(operation: str, demo: Demo, known: Known) -> None:
    upper = demo.api.inside(demo.api.organization.upper())
    answers = [
        request(
            operation, api, known, ids={name: value.upper() for name, value in known.ids.items()} if changed else {}
        )
        for api in (demo.api, upper)
        for changed in (False, True)
    ]
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].status_code == 200


@pytest.mark.sqlite_only
def test_the_identifier_of_a_push_is_read_in_any_case(demo: Demo, known: Known) -> None:
    assert demo.api.send("package", known.package.id.upper()).status_code == 200


def test_the_organization_is_named_by_id_or_slug(demo: Demo) -> None:
    by_id, by_slug = demo.api.get(""), demo.api.inside(demo.api.slug).get("")
    assert by_id.content == by_slug.content
    assert by_id.json()["data"]["id"] == by_id.json()["data"]["_id"] == demo.api.organization


@pytest.mark.sqlite_only
def test_a_slug_is_read_exactly(demo: Demo) -> None:
    assert error_of(demo.api.inside(demo.api.slug.upper()).get("")) == (404, 3001)


def test_times_are_rfc_3339_in_utc(demo: Demo, known: Known) -> None:
    record = demo.api.command(known.aosp, known.ids["aosCommandId"])
    times = [record["createdAt"], record["updatedAt"], record["expiresAt"], record["progress"]["at"]]
    assert all(TIME.fullmatch(found) for found in times)


# ---------------------------------------------------------------- 4


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path + "/",
        lambda path: path + "///",
        lambda path: path.replace("/", "//"),
        lambda path: "//" + path.lstrip("/"),
        lambda path: path.replace("/mdm/", "///mdm/") + "/?",
    ],
)
@pytest.mark.parametrize("operation", ["getEmmCommand", "listAosCommands", "getOrganization", "createAosCommand"])
def test_slashes_too_many_mean_the_same(operation: str, change: object, demo: Demo, known: Known) -> None:
    path = path_of(operation, known.ids, demo.api.slug)
    method, body = operations()[operation].method, b'{"command":"LOCK"}'
    headers = [authorized(demo), ("Content-Length", str(len(body)))]
    answer = exchange(demo.ready["baseUrl"], method, change(path), headers, body)  # type: ignore[operator]
    assert answer.status == 200, answer


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", ["getEmmCommand", "listEmmDevices", "getOrganization"])
def test_a_content_type_without_a_body_is_no_error(operation: str, demo: Demo, known: Known) -> None:
    assert request(operation, demo.api, known, headers={"Content-Type": "application/json"}).status_code == 200


def test_cancel_takes_a_content_type_without_a_body_and_a_body_that_says_nothing(demo: Demo, known: Known) -> None:
    for more in ({"headers": {"Content-Type": "application/json"}}, {"body": b"{}"}, {"body": b"not even JSON"}):
        ids = {"aosCommandId": demo.api.create(known.aosp, "LOCK")["id"]}
        answer = request("cancelAosCommand", demo.api, known, ids=ids, **more)
        assert (answer.status_code, answer.json()["data"]["status"]) == (200, "CANCEL")


@pytest.mark.sqlite_only
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
def test_a_body_is_json_whatever_it_is_called(content_type: str, demo: Demo, known: Known) -> None:
    body = b'{"command":"LOCK"}'
    answer = request("createAosCommand", demo.api, known, body=body, headers={"Content-Type": content_type})
    assert answer.status_code == 200


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", [name for name in ALL if operations()[name].method == "GET"])
def test_head_answers_as_get_without_the_body(operation: str, demo: Demo, known: Known) -> None:
    path = path_of(operation, known.ids, demo.api.slug)
    read = [exchange(demo.ready["baseUrl"], method, path, [authorized(demo)]) for method in ("GET", "HEAD")]
    assert [answer.status for answer in read] == [200, 200]
    assert read[0].headers["content-length"] == read[1].headers["content-length"] == str(len(read[0].body))
    assert read[0].headers["content-type"] == read[1].headers["content-type"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("target", ["/healthz", "/docs", "/openapi.json", "/nothing", "/v1/organizations/x"])
def test_nothing_follows_the_head(target: str, demo: Demo) -> None:
    """Also of refusals: the next answer on the connection would begin with the rest."""
    answers = [exchange(demo.ready["baseUrl"], method, target, []) for method in ("GET", "HEAD")]
    assert answers[0].status == answers[1].status
    assert answers[1].body == b""
    assert demo.client.head(target).status_code == answers[0].status


@pytest.mark.sqlite_only
def test_head_is_not_for_what_cannot_be_read(demo: Demo, known: Known) -> None:
    answer = demo.api.call("HEAD", f"{known.android.commands}/{known.ids['emmCommandId']}/cancel")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# ---------------------------------------------------------------- 6


@pytest.mark.sqlite_only
@pytest.mark.parametrize("given", ["a", "!~", "0" * 128, "req-1/2;x=3"])
@pytest.mark.parametrize("target", ["/healthz", "/nothing", "/v1/organizations/x"])
def test_the_request_id_of_a_client_is_taken_over(given: str, target: str, demo: Demo) -> None:
    answer = exchange(demo.ready["baseUrl"], "GET", target, [("X-Request-Id", given)])
    assert answer.headers["x-request-id"] == given


@pytest.mark.sqlite_only
@pytest.mark.parametrize("given", ["", " ", "0" * 129, "a b", "ä", "a\tb"])
def test_a_request_id_that_cannot_be_used_is_replaced(given: str, demo: Demo) -> None:
    answer = exchange(demo.ready["baseUrl"], "GET", "/healthz", [("X-Request-Id", given)])
    assert re.fullmatch("[!-~]{1,128}", answer.headers["x-request-id"])
    assert answer.headers["x-request-id"] != given


@pytest.mark.sqlite_only
def test_request_ids_of_ours_differ(demo: Demo) -> None:
    ids = {demo.client.get("/healthz").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


# ---------------------------------------------------------------- what comes in half


@pytest.mark.sqlite_only
@pytest.mark.parametrize("announced", [("Content-Length", "1000"), ("Transfer-Encoding", "chunked")])
def test_a_request_that_never_came_to_its_end_does_nothing(
    announced: tuple[str, str], demo: Demo, known: Known
) -> None:
    """What has arrived is valid by itself; the client broke off all the same."""
    mark = {"mark": announced[0]}
    body = json.dumps({"command": "LOCK", "params": mark}).encode()
    path = path_of("createAosCommand", known.ids, demo.api.slug)
    before = abandoned(demo)
    with connect(demo.ready["baseUrl"]) as connection:
        connection.sendall(head("POST", path, [authorized(demo), announced]))
        connection.sendall(chunk(body) if "chunked" in announced else body)
    until(lambda: abandoned(demo), lambda found: found > before)
    listed = demo.api.get(known.aosp.commands, limit=10000, sort="createdAt:desc").json()["data"]["items"]
    assert mark not in [found["params"] for found in listed]


def abandoned(demo: Demo) -> float:
    """How many requests have ended without their client, by the server's own figures."""
    lines = demo.api.call("GET", "/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if "http_requests_total" in line and 'status="499"' in line)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("host", ['a b"<>', "a/b", ""])
def test_a_host_that_is_none_is_refused_in_the_envelope(host: str, demo: Demo) -> None:
    answer = exchange(
        demo.ready["baseUrl"], "GET", f"/v1/organizations/{demo.api.slug}", [("Host", host), authorized(demo)]
    )
    assert answer.status == 200 or answer.error == (400, 5209)
    assert answer.headers["x-request-id"]
