"""An emulator over a small fleet, and a client that speaks to it in process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2

from heliograph_lab.amapi import AmapiEmulator, EmulatorSettings
from heliograph_lab.fleet import AmapiSpec, DeviceSpec, Fleet
from heliograph_lab.kernel import Kernel

ENTERPRISE = "enterprises/LC1"
Json = dict[str, Any]


def device(name: str, **amapi: Any) -> DeviceSpec:
    """An Android 16 device, fully managed unless said otherwise."""
    spec = AmapiSpec(name=f"{ENTERPRISE}/devices/{name}", **{"api_level": 36, **amapi})
    return DeviceSpec(device_id=f"id-{name}", name=name, platform="android", serial_number=f"SN-{name}", amapi=spec)


FLEET = [
    device("d1"),
    device("d2"),
    device("old", api_level=23),
    device("profile", management_mode="PROFILE_OWNER", ownership="PERSONALLY_OWNED"),
]


class Rig:
    """One running emulator."""

    def __init__(self, directory: Path, settings: EmulatorSettings | None = None) -> None:
        self.kernel = Kernel(directory)
        self.fleet = Fleet(self.kernel)
        self.emulator = AmapiEmulator(self.kernel, self.fleet, settings)
        self.settings = self.emulator.settings
        transport = httpx2.ASGITransport(app=self.emulator.app)
        headers = {"authorization": "Bearer any"}
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://amapi.test", headers=headers)

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, **query: Any) -> Json:
        """One call; the answer has to have this status."""
        content = {"json": body} if body is not None else {}
        response = await self.client.request(method, f"/v1/{path}", params=query or None, **content)
        assert response.status_code == status, response.text
        answer: Json = response.json()
        return answer

    async def issue(self, name: str = "d1", body: Json | None = None, *, status: int = 200) -> Json:
        """devices.issueCommand, LOCK unless said otherwise."""
        path = f"{ENTERPRISE}/devices/{name}:issueCommand"
        return await self.ask("POST", path, body if body is not None else {"type": "LOCK"}, status=status)

    async def get(self, name: str) -> Json:
        """operations.get."""
        return await self.ask("GET", name)

    async def cancel(self, name: str, *, status: int = 200) -> Json:
        """operations.cancel."""
        return await self.ask("POST", f"{name}:cancel", status=status)

    async def done(self, name: str) -> Json:
        """The operation, once it is done."""
        await self.until(lambda: self._is_done(name))
        return await self.get(name)

    async def set(self, name: str = "d1", **patch: Any) -> None:
        """PUT /devices/{deviceId} of the control API."""
        await self.fleet.update(f"id-{name}", patch)

    def executed(self, name: str = "d1") -> list[str | None]:
        """The operations that the device has executed, by its own journal."""
        return [item.operation for item in self.kernel.journal.items(f"id-{name}") if item.event == "executed"]

    async def quiet(self) -> None:
        """Let everything that is due happen, through a few commits."""
        for _ in range(5):
            for _ in range(20):
                await asyncio.sleep(0)
            await self.kernel.commit()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for it; the limit only keeps a broken test from hanging."""
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.002)

    def _is_done(self, name: str) -> bool:
        slot = self.emulator.book.find(name)
        return slot is not None and slot.published is not None and slot.published.done


@contextlib.asynccontextmanager
async def running(directory: Path, settings: EmulatorSettings | None = None) -> AsyncIterator[Rig]:
    """A rig from start to stop."""
    rig = Rig(directory, settings)
    try:
        await rig.fleet.put_all(FLEET)
        await rig.emulator.start()
        yield rig
    finally:
        await rig.emulator.stop()
        await rig.client.aclose()
        rig.kernel.close()
