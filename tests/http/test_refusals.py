"""The order of refusals (DECISIONS 7): a request that breaks two rules hears of the earlier one."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from tests.http.routes import ABSENT, ALL, Known, path_of, request
from tests.support.client import Api, data_of, error_of
from tests.support.contract import operations
from tests.support.demo import Demo
from tests.support.raw import RawAnswer, chunk, exchange

LIMIT = 1024 * 1024
TOO_LARGE = str(LIMIT + 1)
MESSAGES = {
    1002: {"Route not found", "Method not allowed"},
    3001: {"Entity not found"},
    4001: {"Unauthorized"},
    4002: {"No auth token"},
    4004: {"Invalid Token"},
    5050: {"Feature not allowed for you billing plan"},
    5052: {"EmmCommand status not Pending"},
    5209: {"Invalid input"},
    5213: {"Body too large"},
}


def large(demo: Demo, method: str, path: str, key: str | None = None) -> RawAnswer:
    """A request whose body is announced as too large."""
    headers = [("Content-Length", TOO_LARGE)] + ([("Authorization", f"Bearer {key}")] if key else [])
    return exchange(demo.ready["baseUrl"], method, path, headers)


@pytest.fixture(scope="session")
def finished(demo: Demo) -> str:
    """An Android command that is over."""
    device = demo["android-online"]
    return str(demo.api.over(device, demo.api.create(device, "LOCK")["id"])["id"])


class TestEachPairInTheOrder:
    """In the order of decision 7."""

    def test_unknown_route_before_method(self, demo: Demo) -> None:
        assert error_of(demo.api.call("PATCH", "/v1/nothing")) == (404, 1002)

    def test_unknown_route_before_size(self, demo: Demo) -> None:
        assert large(demo, "POST", "/v1/nothing").error == (404, 1002)

    def test_method_before_size(self, demo: Demo, known: Known) -> None:
        path = path_of("getEmmDevice", known.ids, demo.api.slug)
        assert large(demo, "PATCH", path).error == (405, 1002)

    def test_size_before_token(self, demo: Demo, known: Known) -> None:
        path = path_of("createEmmCommand", known.ids, demo.api.slug)
        assert large(demo, "POST", path).error == (413, 5213)
        assert large(demo, "POST", path, "no-key-of-ours").error == (413, 5213)

    def test_missing_token_before_organization(self, demo: Demo) -> None:
        assert error_of(Api(demo.client, ABSENT, None).get("")) == (401, 4002)

    def test_bad_token_before_organization(self, demo: Demo) -> None:
        assert error_of(Api(demo.client, ABSENT, "no-key-of-ours").get("")) == (401, 4004)

    def test_revoked_token_before_organization(self, demo: Demo) -> None:
        key = demo.key("base.organization.get")
        demo.api.setup("key.revoke", id=key.key_id)
        assert error_of(key.inside(ABSENT).get("")) == (401, 4004)

    def test_organization_before_permission(self, demo: Demo, known: Known) -> None:
        powerless = demo.key("base.organization.get", organization=demo.other)
        assert error_of(request("createEmmCommand", powerless.inside(demo.api.organization), known)) == (404, 3001)

    def test_permission_before_plan(self, demo: Demo, known: Known) -> None:
        without = demo.new_organization(androidCommands=False)
        powerless = demo.key("base.organization.get", organization=without)
        assert error_of(request("createEmmCommand", powerless, known)) == (401, 4001)

    def test_plan_before_body(self, demo: Demo, known: Known) -> None:
        without = demo.new_organization(androidCommands=False, pushNotifications=False, aospCommands=False)
        for operation in ("createEmmCommand", "createAosCommand", "sendPushNotification"):
            assert error_of(request(operation, without, known, body=b"{")) == (400, 5050)

    def test_plan_before_query(self, demo: Demo, known: Known) -> None:
        without = demo.new_organization(aospCommands=False)
        assert error_of(request("listAosCommands", without, known, params={"page": "0"})) == (400, 5050)

    def test_body_before_entity(self, demo: Demo, known: Known) -> None:
        for operation, ids in (("createEmmCommand", "emmDeviceId"), ("createAosCommand", "aosDeviceId")):
            for body in (b"{", b"{}", b"[]"):
                assert error_of(request(operation, demo.api, known, ids={ids: ABSENT}, body=body)) == (400, 5209)

    def test_query_before_entity(self, demo: Demo, known: Known) -> None:
        answer = request("listAosCommands", demo.api, known, ids={"aosDeviceId": ABSENT}, params={"limit": "0"})
        assert error_of(answer) == (400, 5209)
        answer = request("getEmmCommand", demo.api, known, ids={"emmCommandId": "malformed"}, params={"wait": "x"})
        assert error_of(answer) == (400, 5209)

    def test_entity_before_state(self, demo: Demo, known: Known, finished: str) -> None:
        """A finished command under a device that it does not belong to."""
        answer = request("cancelEmmCommand", demo.api, known, ids={"emmCommandId": finished})
        assert error_of(answer) == (404, 3001)

    def test_state_comes_last(self, demo: Demo, known: Known, finished: str) -> None:
        ids = {"emmDeviceId": demo["android-online"].id, "emmCommandId": finished}
        assert error_of(request("cancelEmmCommand", demo.api, known, ids=ids)) == (400, 5052)


@pytest.mark.sqlite_only
class TestUnknownRoutesAndMethods:
    """404/1002 and 405/1002."""

    @pytest.mark.parametrize(
        "path", ["/nothing", "/v1", "/v1/organization", "/v2/organizations/x", "/agent/v2/register"]
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
    def test_a_route_that_does_not_exist(self, path: str, method: str, demo: Demo) -> None:
        assert error_of(demo.api.call(method, path)) == (404, 1002)
        assert error_of(demo.api.with_key(None).call(method, path)) == (404, 1002)

    @pytest.mark.parametrize("path", ["%2e%2e/x", "%00", "%ff", "ä", "a b", ";", "..%2f..%2fhealthz"])
    def test_a_route_of_odd_characters(self, path: str, demo: Demo) -> None:
        assert error_of(demo.api.get(f"/v1/organizations/x/{path}")) == (404, 1002)

    @pytest.mark.parametrize("operation", ALL)
    def test_a_method_that_the_route_does_not_take(self, operation: str, demo: Demo, known: Known) -> None:
        path = path_of(operation, known.ids, demo.api.slug)
        answer = demo.client.request("TRACE", path)
        assert error_of(answer) == (405, 1002)
        here = [o.method for o in operations().values() if path_fits(o.path, operation) and o.id in ALL]
        offered = sorted({*here, *(["HEAD"] if "GET" in here else [])})
        assert answer.headers["allow"] == ", ".join(offered)

    def test_a_method_that_is_none(self, demo: Demo) -> None:
        assert demo.client.request("PROPFIND", "/healthz").headers["allow"] == "GET, HEAD"

    def test_an_encoded_slash_in_an_id_is_another_route(self, demo: Demo) -> None:
        assert error_of(demo.api.get("mdm/android/enterprise/devices/a%2Fb")) == (404, 1002)


def path_fits(path: str, operation: str) -> bool:
    return operations()[operation].path == path


@pytest.mark.sqlite_only
class TestMalformedIds:
    """An id that is none is an unknown one."""

    @pytest.mark.parametrize(
        "text", ["x", "0" * 23, "0" * 25, "g" * 24, "%00", "%ff", "%F0%9F%9B%B0", "a%20b", "'", '"']
    )
    @pytest.mark.parametrize("operation", ["getEmmCommand", "getAosCommand", "getPushNotification", "cancelAosCommand"])
    def test_last_in_the_path(self, operation: str, text: str, demo: Demo, known: Known) -> None:
        name = {"getEmmCommand": "emmCommandId", "getPushNotification": "pushNotificationId"}.get(
            operation, "aosCommandId"
        )
        assert error_of(request(operation, demo.api, known, ids={name: text})) == (404, 3001)

    @pytest.mark.parametrize("text", ["x", "0" * 23, "g" * 24, "%00", "%ff", "a%20b", "0" * 5000])
    @pytest.mark.parametrize("operation", ["listEmmCommands", "createAosCommand", "getDevice", "getAosDevice"])
    def test_of_a_device(self, operation: str, text: str, demo: Demo, known: Known) -> None:
        ids = dict.fromkeys(("emmDeviceId", "aosDeviceId", "deviceId"), text)
        assert error_of(request(operation, demo.api, known, ids=ids)) == (404, 3001)

    @pytest.mark.parametrize("text", ["x", "..", "%00", "%ff", "a%20b", "0" * 5000])
    def test_of_the_organization(self, text: str, demo: Demo, known: Known) -> None:
        assert error_of(request("getAosDevice", demo.api.inside(text), known)) in ((404, 3001), (404, 1002))


def test_messages_are_those_of_the_reference(demo: Demo, known: Known, finished: str) -> None:
    without = demo.new_organization(androidCommands=False)
    over = {"emmDeviceId": demo["android-online"].id, "emmCommandId": finished}
    answers = [
        demo.api.get("/nothing"),
        demo.api.call("PUT", ""),
        request("getOrganization", demo.api.with_key(None), known),
        request("getOrganization", demo.api.with_key("x"), known),
        request("getOrganization", demo.key("mdm.*"), known),
        request("getEmmCommand", without, known),
        request("createEmmCommand", demo.api, known, body=b"{}"),
        request("getEmmDevice", demo.api, known, ids={"emmDeviceId": ABSENT}),
        request("cancelEmmCommand", demo.api, known, ids=over),
    ]
    assert [a for a in answers if a.json()["error"]["message"] not in MESSAGES[error_of(a)[1]]] == []
    assert len({error_of(answer) for answer in answers}) == len(answers)


class TestBodiesThatAreTooLarge:
    """413/5213 for more than 1 MiB, however it is sent and wherever."""

    PATHS = ("createEmmCommand", "getEmmDevice", "listAosCommands", "cancelEmmCommand", "getOrganization")

    @pytest.mark.parametrize("operation", PATHS)
    def test_announced(self, operation: str, demo: Demo, known: Known) -> None:
        path = path_of(operation, known.ids, demo.api.slug)
        answer = large(demo, operations()[operation].method, path, demo.api.key)
        assert answer.error == (413, 5213)
        assert answer.headers["x-request-id"]

    @pytest.mark.sqlite_only
    @pytest.mark.parametrize("operation", PATHS)
    def test_in_chunks(self, operation: str, demo: Demo, known: Known) -> None:
        path = path_of(operation, known.ids, demo.api.slug)
        headers = [("Authorization", f"Bearer {demo.api.key}"), ("Transfer-Encoding", "chunked")]
        body = chunk(b" " * 65_536) * 17 + chunk(b"")
        assert exchange(demo.ready["baseUrl"], operations()[operation].method, path, headers, body).error == (413, 5213)

    @pytest.mark.sqlite_only
    @pytest.mark.parametrize("path", ["/healthz", "/metrics", "/docs", "/agent/v1/register", "/agent/v1/check-in"])
    def test_on_routes_of_the_service(self, path: str, demo: Demo) -> None:
        method = "POST" if path.startswith("/agent") else "GET"
        assert large(demo, method, path).error == (413, 5213)
        headers = [("Transfer-Encoding", "chunked")]
        body = chunk(b" " * 65_536) * 17 + chunk(b"")
        assert exchange(demo.ready["baseUrl"], method, path, headers, body).error == (413, 5213)

    @pytest.mark.sqlite_only
    def test_where_google_pushes_the_token_comes_first(self, demo: Demo) -> None:
        """What Google sends is acknowledged whatever its size, or it would come for days; others learn nothing."""
        path = f"/google/notifications/{'0' * 24}"
        assert large(demo, "POST", path).error == (401, 4002)
        assert large(demo, "POST", path, "forged").error == (401, 4004)

    @pytest.mark.sqlite_only
    def test_sent_whole(self, demo: Demo, known: Known) -> None:
        """A client that sends all before it reads gets its answer too."""
        body = b'{"command":"LOCK"' + b" " * LIMIT + b"}"
        assert error_of(request("createAosCommand", demo.api, known, body=body)) == (413, 5213)
        assert error_of(demo.api.post("/v1/nothing", body)) == (404, 1002)

    @pytest.mark.sqlite_only
    def test_a_body_of_exactly_the_limit_is_read(self, demo: Demo, known: Known) -> None:
        body = b'{"command":"LOCK"}'
        body += b" " * (LIMIT - len(body))
        assert data_of(request("createAosCommand", demo.api, known, body=body))["command"] == "LOCK"
        assert error_of(request("createAosCommand", demo.api, known, body=body + b" ")) == (413, 5213)

    @pytest.mark.sqlite_only
    def test_the_connection_stays_usable_or_says_that_it_does_not(self, demo: Demo, known: Known) -> None:
        for _ in range(3):
            body = b" " * (2 * LIMIT)
            assert error_of(request("createAosCommand", demo.api, known, body=body)) == (413, 5213)
            assert request("getOrganization", demo.api, known).status_code == 200


@pytest.mark.sqlite_only
def test_a_body_too_large_is_answered_also_to_a_client_that_writes_before_it_reads(demo: Demo, known: Known) -> None:
    """Such as urllib: a connection that is reset would hide the answer from it."""
    url = f"{demo.ready['baseUrl']}{path_of('createAosCommand', known.ids, demo.api.organization)}"
    headers = {"Authorization": f"Bearer {demo.ready['apiKey']}", "Content-Type": "application/json"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for size in (2**20 + 1, 2 * 2**20, 5 * 2**20) * 3:
        asked = urllib.request.Request(url, data=b"a" * size, headers=headers, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            opener.open(asked, timeout=30)
        assert refused.value.code == 413
        refused.value.close()
