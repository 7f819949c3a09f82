"""Google's own generated client, unmodified, against the emulator over a real socket: it must accept every reply."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import InvalidOperation
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from heliograph_lab.amapi.discovery import Parameter, match, methods
from heliograph_lab.amapi.methods import MODELLED, UNMODELLED
from tests.lab.amapi.rig import ENTERPRISE, Rig, running
from tests.lab.amapi.test_execution import BODIES
from tests.lab.serving import serving

SCOPE = "https://www.googleapis.com/auth/androidmanagement"
D1 = f"{ENTERPRISE}/devices/d1"


class Google:
    """The client, which is synchronous, in a thread; and the emulator behind it."""

    def __init__(self, rig: Rig, api: Any) -> None:
        self.rig = rig
        self.api = api
        self.enterprises = api.enterprises()
        self.devices = self.enterprises.devices()
        self.operations = self.devices.operations()

    async def do(self, request: Any) -> Any:
        """Execute one request of the client."""
        return await asyncio.to_thread(request.execute)

    async def refused(self, request: Any) -> HttpError:
        """Execute one that has to fail."""
        with pytest.raises(HttpError) as caught:
            await self.do(request)
        return caught.value

    async def done(self, name: str) -> Any:
        """Poll as a client would."""
        async with asyncio.timeout(60):
            while not (operation := await self.do(self.operations.get(name=name))).get("done"):  # noqa: ASYNC110 - as a client has to
                await asyncio.sleep(0.01)
        return operation


@pytest.fixture(scope="module")
def key() -> str:
    private = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    return private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@contextlib.asynccontextmanager
async def _client(directory: Path, credentials: Callable[[str], Any]) -> AsyncIterator[Google]:
    async with running(directory) as rig, serving(rig.emulator.app) as url:
        api = await asyncio.to_thread(
            build,
            "androidmanagement",
            "v1",
            static_discovery=True,
            credentials=credentials(url),
            client_options={"api_endpoint": url},
        )
        try:
            yield Google(rig, api)
        finally:
            await asyncio.to_thread(api.close)


@pytest.fixture
async def google(tmp_path: Path, key: str) -> AsyncIterator[Google]:
    def credentials(url: str) -> Any:
        account = {
            "type": "service_account",
            "client_email": "robot@project.iam.gserviceaccount.com",
            "private_key": key,
            "private_key_id": "1",
            "token_uri": f"{url}/token",
        }
        return service_account.Credentials.from_service_account_info(account, scopes=[SCOPE])  # type: ignore[no-untyped-call]

    async with _client(tmp_path / "lab", credentials) as google:
        yield google


@pytest.mark.parametrize("kind", BODIES)
async def test_every_command(google: Google, kind: str) -> None:
    google.rig.settings.drop_delay = 3600
    issued = await google.do(google.devices.issueCommand(name=D1, body=BODIES[kind]))
    assert "done" not in issued
    operation = await google.done(issued["name"])
    assert operation["metadata"]["@type"] == "type.googleapis.com/google.android.devicemanagement.v1.Command"
    assert operation["metadata"]["type"] == kind
    assert operation["metadata"]["createTime"] == issued["metadata"]["createTime"]
    assert "error" not in operation
    assert google.rig.executed() == [issued["name"]]


async def test_list_with_pages(google: Google) -> None:
    await google.rig.set(online=False)
    issue = google.devices.issueCommand(name=D1, body={"type": "LOCK"})
    names = [(await google.do(issue))["name"] for _ in range(7)]
    request = google.operations.list(name=f"{D1}/operations", pageSize=3, returnPartialSuccess=True)
    pages = []
    while request is not None:
        page = await google.do(request)
        pages.append([item["name"] for item in page["operations"]])
        request = google.operations.list_next(request, page)
    assert pages == [names[:3], names[3:6], names[6:]]


async def test_cancel(google: Google) -> None:
    await google.rig.set(online=False)
    name = (await google.do(google.devices.issueCommand(name=D1, body={"type": "WIPE", "wipeParams": {}})))["name"]
    assert await google.do(google.operations.cancel(name=name)) == {}
    assert (await google.done(name))["error"]["code"] == 1
    await google.rig.set(online=True)
    await google.rig.quiet()
    assert google.rig.executed() == []


async def test_devices_and_enterprises(google: Google) -> None:
    assert (await google.do(google.devices.get(name=D1)))["name"] == D1
    request = google.devices.list(parent=ENTERPRISE, pageSize=3)
    names = []
    while request is not None:
        page = await google.do(request)
        names += [item["name"] for item in page["devices"]]
        request = google.devices.list_next(request, page)
    assert names == sorted(f"{ENTERPRISE}/devices/{name}" for name in ("d1", "d2", "old", "profile"))
    patched = await google.do(google.devices.patch(name=D1, body={"state": "DISABLED"}, updateMask="state"))
    assert patched["state"] == "DISABLED"
    flags = ["WIPE_ESIMS", "WIPE_EXTERNAL_STORAGE"]
    assert await google.do(google.devices.delete(name=D1, wipeDataFlags=flags, wipeReasonMessage="sold")) == {}
    assert (await google.refused(google.devices.get(name=D1))).status_code == 404
    assert (await google.do(google.enterprises.get(name=ENTERPRISE)))["name"] == ENTERPRISE
    listed = await google.do(google.enterprises.list(projectId="project"))
    assert [item["name"] for item in listed["enterprises"]] == [ENTERPRISE]


async def test_refusals(google: Google) -> None:
    bad = await google.refused(google.devices.issueCommand(name=D1, body={"type": "NOPE", "zz": 1}))
    assert bad.status_code == 400
    assert [len(detail["fieldViolations"]) for detail in bad.error_details] == [2]
    missing = await google.refused(google.operations.get(name=f"{D1}/operations/1"))
    assert (missing.status_code, missing.reason) == (404, "Requested entity was not found.")
    foreign = await google.refused(google.devices.get(name="enterprises/other/devices/d1"))
    assert (foreign.status_code, foreign.reason) == (403, "Caller is not authorized to manage enterprise.")
    unmodelled = await google.refused(google.enterprises.policies().list(parent=ENTERPRISE))
    assert unmodelled.status_code == 501


async def test_a_run_over_every_modelled_method(google: Google) -> None:
    """From the sign-up URL to the deleted enterprise; what the client sends and reads is all in Google's document."""
    enterprise = await _signed_up(google)
    listed = await google.do(google.enterprises.list(projectId="project"))
    assert enterprise in [item["name"] for item in listed["enterprises"]]
    body = {"pubsubTopic": "projects/project/topics/devices", "enabledNotificationTypes": ["COMMAND", "ENROLLMENT"]}
    patched = await google.do(google.enterprises.patch(name=enterprise, body=body, updateMask=",".join(body)))
    assert {key: patched[key] for key in body} == body
    assert await google.do(google.enterprises.get(name=enterprise)) == patched
    device = await _enrolled(google, enterprise)
    await _commanded(google, device)
    await google.do(google.devices.patch(name=device, body={"state": "DISABLED"}, updateMask="state"))
    assert (await google.do(google.devices.get(name=device)))["state"] == "DISABLED"
    assert [item["name"] for item in (await google.do(google.devices.list(parent=enterprise)))["devices"]] == [device]
    assert await google.do(google.devices.delete(name=device)) == {}
    await google.rig.kernel.settings.change({"amapi": {"deleteCustomerManaged": "ok"}})
    assert await google.do(google.enterprises.delete(name=enterprise)) == {}
    asked = [match(item.method, item.path) for item in google.rig.kernel.requests.items("amapi")]
    assert {found[0].id for found in asked if found is not None} == set(MODELLED)


async def _signed_up(google: Google) -> str:
    """What a browser does between the two calls is done here by hand."""
    create = google.api.signupUrls().create(projectId="project", callbackUrl="https://emm.example/done")
    signup = await google.do(create)
    page = await google.rig.client.get(urlsplit(signup["url"]).path)
    token = parse_qs(urlsplit(page.headers["location"]).query)["enterpriseToken"][0]
    made = google.enterprises.create(
        projectId="project", signupUrlName=signup["name"], enterpriseToken=token, body={"enterpriseDisplayName": "Acme"}
    )
    name: str = (await google.do(made))["name"]
    return name


async def _enrolled(google: Google, enterprise: str) -> str:
    tokens = google.enterprises.enrollmentTokens()
    made = [await google.do(tokens.create(parent=enterprise, body={"additionalData": f"unit {n}"})) for n in range(3)]
    pages = []
    request = tokens.list(parent=enterprise, pageSize=2)
    while request is not None:
        page = await google.do(request)
        pages.append([item["name"] for item in page["enrollmentTokens"]])
        request = tokens.list_next(request, page)
    assert pages == [[made[0]["name"], made[1]["name"]], [made[2]["name"]]]
    assert (await google.do(tokens.get(name=made[0]["name"])))["qrCode"] == made[0]["qrCode"]
    assert await google.do(tokens.delete(name=made[0]["name"])) == {}
    assert (await google.refused(tokens.get(name=made[0]["name"]))).status_code == 404
    body = {"enrollmentToken": made[1]["value"], "online": False}
    device, name = await google.rig.emulator.enrolment.enrol(body)
    assert not device.online
    assert (await google.do(google.devices.get(name=name)))["enrollmentTokenData"] == "unit 1"
    return name


async def _commanded(google: Google, device: str) -> None:
    issued = await google.do(google.devices.issueCommand(name=device, body={"type": "LOCK"}))
    listed = await google.do(google.operations.list(name=f"{device}/operations"))
    assert [item["name"] for item in listed["operations"]] == [issued["name"]]
    assert await google.do(google.operations.cancel(name=issued["name"])) == {}
    assert (await google.done(issued["name"]))["error"]["code"] == 1


async def test_every_other_method_of_the_document_answers_501(google: Google, caplog: pytest.LogCaptureFixture) -> None:
    for method_id in UNMODELLED:
        resource = google.api
        *path, name = method_id.split(".")[1:]
        for part in path:
            resource = getattr(resource, part)()
        call = getattr(resource, name)
        given: dict[str, Any] = {key: _example(value.pattern or "") for key, value in _parameters(method_id).items()}
        if "body=" in str(inspect.signature(call)) or "body:" in (call.__doc__ or ""):
            given["body"] = {}
        caplog.clear()
        refused = await google.refused(call(**given))
        assert (refused.status_code, method_id in refused.reason) == (501, True)
        logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert [method_id in text for text in logged] == [True]
    assert len(UNMODELLED) + len(MODELLED) == 36


def _parameters(method_id: str) -> dict[str, Parameter]:
    method = next(method for method in methods() if method.id == method_id)
    return {name: value for name, value in method.parameters.items() if value.location == "path"}


def _example(pattern: str) -> str:
    return pattern.strip("^$").replace("[^/]+", "LC1")


NOT_FOUND = '{"error": {"code": 500, "message": "Requested entity was not found.", "status": "INTERNAL"}}'
FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "400": ({"status": 400}, 400, "Request contains an invalid argument."),
    "401": ({"status": 401}, 401, "Request is missing required authentication credential."),
    "403": ({"status": 403}, 403, "Caller is not authorized to manage enterprise."),
    "404": ({"status": 404}, 404, "Requested entity was not found."),
    "409": ({"status": 409}, 409, "The operation was aborted."),
    "429": ({"status": 429}, 429, "Quota exceeded"),
    "429 with Retry-After": ({"status": 429, "retryAfter": 3}, 429, "Quota exceeded"),
    "500 in the words of 404": ({"status": 500, "body": NOT_FOUND}, 500, "Requested entity was not found."),
    "503": ({"status": 503}, 503, "The service is currently unavailable."),
    "502 of a proxy": ({"status": 502, "body": "<html>Bad Gateway</html>"}, 502, "Bad Gateway"),
    "slow, then 503": ({"status": 503, "delayMs": 30}, 503, "The service is currently unavailable."),
}
CALLS: dict[str, tuple[str, Callable[[Google], Any]]] = {
    "issue": (":issueCommand$", lambda g: g.devices.issueCommand(name=D1, body={"type": "LOCK"})),
    "get": ("/operations/[0-9]+$", lambda g: g.operations.get(name=f"{D1}/operations/1")),
    "list": ("/operations$", lambda g: g.operations.list(name=f"{D1}/operations")),
    "cancel": (":cancel$", lambda g: g.operations.cancel(name=f"{D1}/operations/1")),
    "device": ("/devices/[^/:]+$", lambda g: g.devices.get(name=D1)),
    "devices": ("/devices$", lambda g: g.devices.list(parent=ENTERPRISE)),
    "enterprise": ("/enterprises/[^/]+$", lambda g: g.enterprises.get(name=ENTERPRISE)),
    "token": ("/enrollmentTokens$", lambda g: g.enterprises.enrollmentTokens().create(parent=ENTERPRISE, body={})),
    "sign-up": ("/signupUrls$", lambda g: g.api.signupUrls().create(projectId="p")),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_faults_on_every_route(google: Google, fault: str) -> None:
    await google.do(google.devices.get(name=D1))  # the token is there
    action, status, words = FAULTS[fault]
    for path, call in CALLS.values():
        google.rig.kernel.faults.replace([{"service": "amapi", "action": action, "match": {"path": path}}])
        refused = await google.refused(call(google))
        assert (refused.status_code, words in str(refused)) == (status, True), path
        assert refused.resp.get("retry-after") == ("3" if "retryAfter" in action else None)
    google.rig.kernel.faults.clear()
    assert await google.do(google.operations.list(name=f"{D1}/operations")) == {}  # none of it was carried out


async def test_a_rule_ends_after_its_times(google: Google) -> None:
    rules = [
        {"service": "amapi", "action": {"status": 429}, "match": {"path": ":issueCommand$"}, "times": 1},
        {"service": "amapi", "action": {"status": 403}, "match": {"path": ":issueCommand$"}, "times": 1},
        {"service": "amapi", "action": {"delayMs": 30}, "match": {"path": ":issueCommand$"}, "times": 1},
    ]
    google.rig.kernel.faults.replace(rules)
    issue = google.devices.issueCommand(name=D1, body={"type": "LOCK"})
    assert [(await google.refused(issue)).status_code for _ in range(2)] == [429, 403]
    assert (await google.do(issue))["metadata"]["type"] == "LOCK"  # late, but carried out
    assert google.rig.kernel.faults.rules() == []


async def test_a_connection_cut_before_the_command_was_accepted(google: Google) -> None:
    await google.do(google.devices.get(name=D1))
    rule = {"service": "amapi", "action": {"cut": "before"}, "match": {"path": ":issueCommand$"}, "times": 2}
    google.rig.kernel.faults.replace([rule])
    with pytest.raises(OSError):  # noqa: PT011 - httplib2 passes on what the socket says
        await google.do(google.devices.issueCommand(name=D1, body={"type": "LOCK"}))
    assert await google.do(google.operations.list(name=f"{D1}/operations")) == {}


async def test_the_quota(google: Google) -> None:
    await google.rig.kernel.settings.change({"amapi": {"quotaLimit": 2, "quotaWindow": 1e7, "quotaRetryAfter": 60}})
    for _ in range(2):
        await google.do(google.devices.get(name=D1))
    limited = await google.refused(google.devices.get(name=D1))
    assert (limited.status_code, limited.resp["retry-after"]) == (429, "60")
    (use,) = google.rig.emulator.quota.shown()["projects"]
    assert use == {"project": "project", "used": 2, "accepted": 2, "refused": 1}


async def test_a_connection_cut_after_the_command_was_accepted(google: Google) -> None:
    await google.do(google.devices.get(name=D1))
    # Twice: httplib2 repeats even a POST once when the connection closes without an answer.
    rule = {"service": "amapi", "action": {"cut": "after"}, "match": {"path": ":issueCommand$"}, "times": 2}
    google.rig.kernel.faults.replace([rule])
    with pytest.raises(OSError):  # noqa: PT011 - httplib2 passes on what the socket says
        await google.do(google.devices.issueCommand(name=D1, body={"type": "LOCK"}))
    listed = await google.do(google.operations.list(name=f"{D1}/operations"))
    received = [item for item in google.rig.kernel.requests.items("amapi") if item.path.endswith(":issueCommand")]
    assert received
    assert [item["metadata"]["type"] for item in listed["operations"]] == ["LOCK"] * len(received)


async def test_anonymous_is_unauthenticated_unless_allowed(tmp_path: Path) -> None:
    async with _client(tmp_path / "lab", lambda _: AnonymousCredentials()) as google:  # type: ignore[no-untyped-call]
        with pytest.raises(InvalidOperation):  # the client's answer to 401: it wants another token
            await google.do(google.devices.get(name=D1))
        google.rig.settings.require_token = False
        assert (await google.do(google.devices.get(name=D1)))["name"] == D1
