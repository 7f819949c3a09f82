"""An emulated WNS that is served, and a caller with an access token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from heliograph_lab.control import control_app
from heliograph_lab.fleet import Fleet
from heliograph_lab.kernel import Kernel
from heliograph_lab.wns import Notification, WnsEmulator
from heliograph_lab.wns.control import WnsControl
from tests.lab.serving import serving
from tests.support.direct import direct

SID = "ms-app://s-1-15-2-1-2-3-4-5-6-7"
OTHER_SID = "ms-app://s-1-15-2-7-6-5-4-3-2-1"
CLIENT = "66666666-7777-8888-9999-000000000000"
STORE, ENTRA = "/accesstoken.srf", "/my-tenant/oauth2/v2.0/token"
DAY = 86_400
FORM = {"grant_type": "client_credentials", "client_id": SID, "client_secret": "s", "scope": "notify.windows.com"}
ENTRA_FORM = {**FORM, "client_id": CLIENT, "scope": "https://wns.windows.com/.default"}
RAW = {"X-WNS-Type": "wns/raw", "Content-Type": "application/octet-stream"}
TOAST = {"X-WNS-Type": "wns/toast", "Content-Type": "text/xml"}
CACHED = {**RAW, "X-WNS-Cache-Policy": "cache"}


@dataclass
class Device:
    """Takes what arrives, once it is let."""

    got: list[Notification] = field(default_factory=list)
    works: bool = True

    async def __call__(self, notification: Notification) -> None:
        if not self.works:
            raise ConnectionError
        self.got.append(notification)

    @property
    def bodies(self) -> list[str]:
        return [notification.body for notification in self.got]


@dataclass
class World:
    """An emulator that is served, and a caller with an access token of `SID`."""

    kernel: Kernel
    wns: WnsEmulator
    http: httpx2.AsyncClient
    control: httpx2.AsyncClient
    bearer: str = ""

    async def login(self, path: str = STORE, **form: str) -> httpx2.Response:
        return await self.http.post(path, data=(FORM if path == STORE else ENTRA_FORM) | form)

    async def push(
        self, uri: str, headers: dict[str, str] = RAW, body: str = "hello", *, bearer: str | None = None, **more: str
    ) -> httpx2.Response:
        named = {f"X-WNS-{name}": value for name, value in more.items()}
        token = self.bearer if bearer is None else bearer
        sent = {"Authorization": f"Bearer {token}", "X-WNS-RequestForStatus": "true", **headers, **named}
        return await self.http.post(uri, content=body.encode(), headers=sent)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    kernel = Kernel(tmp_path / "lab")
    wns = WnsEmulator(kernel)

    async def settled(_: str | None) -> None:
        return

    control = control_app(kernel, Fleet(kernel), settled)
    WnsControl(wns).add_to(control)
    async with serving(wns.app) as url:
        wns.base_url = url
        async with (
            direct(url) as http,
            httpx2.AsyncClient(base_url="http://lab", transport=httpx2.ASGITransport(app=control)) as controls,
        ):
            world = World(kernel, wns, http, controls)
            world.bearer = (await world.login()).json()["access_token"]
            yield world
    await wns.stop()
    kernel.close()


def said(answer: httpx2.Response) -> tuple[int, str | None, str | None]:
    """Status, what became of the notification, and the device's connection."""
    headers = answer.headers
    return answer.status_code, headers.get("x-wns-status"), headers.get("x-wns-deviceconnectionstatus")
