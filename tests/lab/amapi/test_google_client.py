"""Google's own generated client, unmodified, against the emulator over a real socket: it must accept every reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import InvalidOperation
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from tests.lab.amapi.rig import ENTERPRISE, Rig, running
from tests.lab.amapi.test_execution import BODIES
from tests.lab.serving import serving

SCOPE = "https://www.googleapis.com/auth/androidmanagement"
D1 = f"{ENTERPRISE}/devices/d1"


class Google:
    """The client, which is synchronous, in a thread; and the emulator behind it."""

    def __init__(self, rig: Rig, api: Any) -> None:
        self.rig = rig
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


async def test_faults(google: Google) -> None:
    await google.do(google.devices.get(name=D1))  # the token is there
    rules = [
        {
            "service": "amapi",
            "action": {"status": 429, "retryAfter": 3},
            "match": {"path": ":issueCommand$"},
            "times": 1,
        },
        {"service": "amapi", "action": {"status": 403}, "match": {"path": ":issueCommand$"}, "times": 1},
    ]
    google.rig.kernel.faults.replace(rules)
    issue = google.devices.issueCommand(name=D1, body={"type": "LOCK"})
    limited = await google.refused(issue)
    assert (limited.status_code, limited.resp["retry-after"]) == (429, "3")
    assert "Quota exceeded" in limited.reason
    assert (await google.refused(issue)).status_code == 403
    await google.do(issue)


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
