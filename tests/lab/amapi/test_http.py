"""The API's edges: authentication, unknown and unmodelled routes, pages, devices, tokens, and secrecy."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from heliograph_lab.amapi import error_body, error_json
from tests.lab.amapi.rig import ENTERPRISE, Rig, device

D1 = f"{ENTERPRISE}/devices/d1"


async def test_without_a_bearer_token_401(rig: Rig) -> None:
    del rig.client.headers["authorization"]
    response = await rig.client.get(f"/v1/{D1}")
    assert response.status_code == 401
    assert response.json()["error"]["status"] == "UNAUTHENTICATED"
    assert response.headers["www-authenticate"].startswith("Bearer")
    rig.settings.require_token = False
    await rig.ask("GET", D1)


async def test_unknown_routes_get_the_front_ends_page(rig: Rig) -> None:
    for method, path in (
        ("GET", "/v1/nothing"),
        ("PUT", f"/v1/{D1}"),
        ("GET", f"/v1/{D1}:issueCommand"),
        ("GET", "/token"),
    ):
        response = await rig.client.request(method, path)
        assert response.status_code == 404
        assert response.headers["content-type"].startswith("text/html")


async def test_documented_but_unmodelled_is_501_and_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    answer = await rig.ask("GET", f"{ENTERPRISE}/policies", status=501)
    assert answer["error"]["status"] == "UNIMPLEMENTED"
    for query in ({"fields": "name"}, {"alt": "media"}):
        await rig.ask("GET", D1, status=501, **query)
    await rig.ask("GET", f"{D1}/operations", status=501, filter="done=true")
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "enterprises.policies.list" in logged[0].getMessage()
    assert len(logged) == 4


async def test_foreign_enterprise_and_missing_device(rig: Rig) -> None:
    assert (await rig.ask("GET", f"{ENTERPRISE}/devices/none", status=404))["error"]["status"] == "NOT_FOUND"
    foreign = await rig.ask("GET", "enterprises/other/devices/d1", status=403)
    assert foreign["error"]["message"] == "Caller is not authorized to manage enterprise."
    await rig.ask("GET", "enterprises/other/devices", status=403)
    for name in ("0", "abc", "9" * 30, "1" * 13):
        await rig.ask("GET", f"{D1}/operations/{name}", status=404)


async def test_operations_have_no_second_name(rig: Rig) -> None:
    name = (await rig.issue())["name"]
    head, _, number = name.rpartition("/")
    await rig.ask("GET", f"{head}/0{number}", status=404)


async def test_device_pages(rig: Rig) -> None:
    await rig.fleet.put_all([device(f"n{index:03}") for index in range(230)])
    assert len((await rig.ask("GET", f"{ENTERPRISE}/devices"))["devices"]) == 10
    names: list[str] = []
    query: dict[str, Any] = {"pageSize": 5000}
    sizes = []
    while True:
        page = await rig.ask("GET", f"{ENTERPRISE}/devices", **query)
        sizes.append(len(page["devices"]))
        names += [item["name"] for item in page["devices"]]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    assert sizes == [100, 100, 30]
    assert names == [f"{ENTERPRISE}/devices/n{index:03}" for index in range(230)]


async def test_page_tokens_belong_to_their_request(rig: Rig) -> None:
    for name in ("d1", "d2"):
        for _ in range(3):
            await rig.issue(name)
    token = (await rig.ask("GET", f"{D1}/operations", pageSize=1))["nextPageToken"]
    assert len((await rig.ask("GET", f"{D1}/operations", pageSize=50, pageToken=token))["operations"]) == 2
    for path in (f"{ENTERPRISE}/devices/d2/operations", f"{ENTERPRISE}/devices"):
        assert "page token" in (await rig.ask("GET", path, status=400, pageToken=token))["error"]["message"]
    for wrong in ("x", "é", token[:-2], base64.urlsafe_b64encode(b"1234567890123").decode()):
        await rig.ask("GET", f"{D1}/operations", status=400, pageToken=wrong)


@pytest.mark.parametrize("query", [{"pageSize": "abc"}, {"pageSize": -1}, {"pageSize": 2**40}, {"zz": 1}])
async def test_wrong_query_parameters(rig: Rig, query: dict[str, Any]) -> None:
    assert (await rig.ask("GET", f"{D1}/operations", status=400, **query))["error"]["status"] == "INVALID_ARGUMENT"


async def test_device_patch(rig: Rig) -> None:
    disabled = await rig.ask("PATCH", D1, {"state": "DISABLED"}, updateMask="state")
    assert disabled["state"] == disabled["appliedState"] == "DISABLED"
    assert (await rig.ask("PATCH", D1, {**disabled, "state": "ACTIVE"}))["state"] == "ACTIVE"
    await rig.ask("PATCH", D1, {"state": "LOST"}, status=400)
    await rig.ask("PATCH", D1, {"state": "NONE"}, status=400)
    assert "memoryInfo" not in await rig.ask("PATCH", D1, {"memoryInfo": {}})
    await rig.ask("PATCH", D1, {"apiLevel": 3}, status=400, updateMask="apiLevel")
    await rig.ask("PATCH", f"{ENTERPRISE}/devices/none", {"state": "ACTIVE"}, status=404)


async def test_device_of_a_personal_work_profile(rig: Rig) -> None:
    shown = await rig.ask("GET", f"{ENTERPRISE}/devices/profile")
    assert shown["hardwareInfo"] == {"serialNumber": "SN-profile", "enterpriseSpecificId": "SN-profile"}
    assert (shown["managementMode"], shown["ownership"]) == ("PROFILE_OWNER", "PERSONALLY_OWNED")


async def test_an_enterprise_outlives_its_devices(rig: Rig) -> None:
    for name in ("d1", "d2", "old", "profile"):
        await rig.ask("DELETE", f"{ENTERPRISE}/devices/{name}")
    assert await rig.ask("GET", f"{ENTERPRISE}/devices") == {}
    listed = await rig.ask("GET", "enterprises", projectId="p")
    assert [item["name"] for item in listed["enterprises"]] == [ENTERPRISE]
    assert (await rig.ask("GET", ENTERPRISE))["name"] == ENTERPRISE


@pytest.mark.parametrize("body", [b"{", b"[1", b"\xff", b"{" * 100_000, b"nul", b'{"a":1}x'])
async def test_bodies_that_are_not_json(rig: Rig, body: bytes) -> None:
    response = await rig.client.post(f"/v1/{D1}:issueCommand", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["status"] == "INVALID_ARGUMENT"


async def test_a_body_beyond_all_measure(rig: Rig) -> None:
    response = await rig.client.post(f"/v1/{D1}:issueCommand", content=b" " * 1_100_000)
    assert response.status_code == 400


def _assertion(**changes: Any) -> str:
    claims = {
        "iss": "robot@p.iam",
        "aud": "https://oauth2.googleapis.com/token",
        "scope": "https://www.googleapis.com/auth/androidmanagement",
        "iat": 1000,
        "exp": 4600,
        **changes,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (*parts, b"signature")).decode()


GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@pytest.mark.parametrize("audience", ["https://oauth2.googleapis.com/token", "http://amapi.test/token"])
async def test_tokens_for_both_audiences(rig: Rig, audience: str) -> None:
    form = {"grant_type": GRANT, "assertion": _assertion(aud=audience)}
    response = await rig.client.post("/token", data=form)
    assert response.status_code == 200
    answer = response.json()
    assert answer["token_type"] == "Bearer"
    rig.client.headers["authorization"] = f"Bearer {answer['access_token']}"
    await rig.ask("GET", D1)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": GRANT, "assertion": _assertion(aud="https://example.com")}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(exp=9999)}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(iss="")}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(scope="email")}, "invalid_scope"),
        ({"grant_type": GRANT, "assertion": "a.b.c"}, "invalid_grant"),
        ({"grant_type": GRANT}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({}, "unsupported_grant_type"),
    ],
)
async def test_refused_tokens(rig: Rig, form: dict[str, str], error: str) -> None:
    response = await rig.client.post("/token", data=form)
    assert response.status_code == 400
    assert response.json()["error"] == error


async def test_a_token_request_that_is_no_form(rig: Rig) -> None:
    for body in (b"zz", b"\xff=1"):
        response = await rig.client.post("/token", content=body)
        assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


async def test_no_secret_in_what_is_shown_logged_or_kept(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "heliograph_lab")
    secret = "s3cr3t-47111"
    esim = {"activationCode": secret, "activationState": "NOT_ACTIVATED"}
    answers: list[Any] = [
        await rig.issue(body={"type": "RESET_PASSWORD", "newPassword": secret}),
        await rig.issue(body={"add_esim_params": esim}),
        await rig.issue(body={"type": "RESET_PASSWORD", "newPassword": [secret]}, status=400),
        await rig.issue(body={"type": "RESET_PASSWORD", "new_password": 47111}, status=400),
        await rig.issue(body={"type": "LOCK", "addEsimParams": {**esim, "zz": 1}}, status=400),
        await rig.issue(body={"type": "LOCK", "addEsimParams": esim}, status=400),
    ]
    answers += [await rig.done(answer["name"]) for answer in answers[:2]]
    response = await rig.client.get(f"/v1/{D1}", params={"access_token": secret})
    assert response.status_code == 200
    kept = [rig.kernel.state.all("amapi.operations"), [str(item) for item in rig.kernel.journal.items("id-d1")]]
    texts = [json.dumps(answers), json.dumps(kept), caplog.text]
    for text in texts:
        assert "47111" not in text
        assert "newPassword" not in text or text == texts[0]
    assert "activationState" in texts[1]


async def test_the_log_has_no_secret_of_enrolment_but_the_record_of_requests_has(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    grant = {"grant_type": GRANT, "assertion": _assertion()}
    bearer = (await rig.client.post("/token", data=grant)).json()["access_token"]
    rig.client.headers["authorization"] = f"Bearer {bearer}"
    signup = await rig.ask("POST", "signupUrls", projectId="p", callbackUrl="https://emm.example/")
    landing = (await rig.client.get(signup["url"])).headers["location"]
    enterprise_token = landing.rpartition("=")[2]
    query: dict[str, Any] = {"projectId": "p", "signupUrlName": signup["name"], "enterpriseToken": enterprise_token}
    name = (await rig.ask("POST", "enterprises", {}, **query))["name"]
    token = (await rig.ask("POST", f"{name}/enrollmentTokens", {"additionalData": "s3cr3t-unit"}))["value"]
    await rig.emulator.enrolment.enrol({"enrollmentToken": token})
    await rig.issue(body={"type": "RESET_PASSWORD", "newPassword": "s3cr3t-pass"})
    assert "devices.issueCommand" in caplog.text  # it does log
    for secret in (bearer, enterprise_token, token, "s3cr3t-unit", "s3cr3t-pass"):
        assert secret not in caplog.text
    seen = str(rig.kernel.requests.items("amapi"))
    for secret in (bearer, enterprise_token, "s3cr3t-unit", "s3cr3t-pass"):
        assert secret in seen


@pytest.mark.parametrize("echoed", [True, False])
async def test_the_password_is_echoed_only_where_that_is_asked_for(rig: Rig, echoed: bool) -> None:
    await rig.kernel.settings.change({"amapi": {"echoNewPassword": echoed}})
    issued = await rig.issue(body={"type": "RESET_PASSWORD", "newPassword": "12345"})
    shown = (await rig.done(issued["name"]))["metadata"]
    assert shown.get("newPassword") == issued["metadata"].get("newPassword") == ("12345" if echoed else None)
    assert shown["errorCode"] == "INVALID_VALUE"  # too weak for Android 14, echoed or not


def test_error_shapes() -> None:
    for status in (400, 401, 403, 404, 409, 418, 429, 500, 501, 502, 503, 504):
        error = json.loads(error_body(status))["error"]
        assert error == error_json(status)["error"]
        assert error["code"] == status
        assert error["message"]
        assert error["status"].isupper()
    assert json.loads(error_body(404, "gone"))["error"]["message"] == "gone"


async def test_the_kernels_faults_speak_googles_language(rig: Rig) -> None:
    rig.kernel.faults.replace([{"service": "amapi", "action": {"status": 429, "retryAfter": 7}, "times": 1}])
    response = await rig.client.get(f"/v1/{D1}")
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"
    assert response.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert [item.path for item in rig.kernel.requests.items("amapi")] == [f"/v1/{D1}"]
