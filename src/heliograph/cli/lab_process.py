"""The lab as a child process: it ends with us, even when we are killed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from heliograph.bootstrap import StartRefused
from heliograph.cli import starting

_SERVICES = ("control", "amapi", "pushy", "pubsub", "apns", "fcm", "wns", "webpush")
_STOP_S = 5.0
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Lab:
    """Where the running lab is reached."""

    control_url: str
    amapi_url: str
    pushy_url: str
    pubsub_url: str
    apns_url: str
    fcm_url: str
    wns_url: str
    webpush_url: str
    ca_path: Path
    pid: int
    process: asyncio.subprocess.Process

    async def stop(self) -> None:
        """End it, if it has not ended yet."""
        await _stop(self.process)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the control API; raises httpx2.HTTPError."""
        async with httpx2.AsyncClient(base_url=self.control_url, trust_env=False, timeout=30) as client:
            answer = await client.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json() if answer.content else None


@asynccontextmanager
async def run_lab(state_dir: Path) -> AsyncIterator[Lab]:
    """Start the lab on a state directory, wait until it listens, and end it after the body."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_dir.chmod(0o700)  # also one of an earlier version: secrets lie there in clear
    ready = state_dir / f"ready.{os.getpid()}.json"
    ready.unlink(missing_ok=True)
    arguments = ["--state-dir", str(state_dir), "--ready-file", str(ready), "--with-parent", str(os.getpid())]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph_lab", *arguments, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    living = starting.hold(state_dir)
    tail: list[str] = []
    reading = asyncio.create_task(_pass_on(process, tail))
    try:
        urls = await _wait_ready(process, ready, tail)
        addresses = {f"{name}_url": urls[f"{name}Url"] for name in _SERVICES}
        yield Lab(**addresses, ca_path=Path(urls["caPath"]), pid=process.pid, process=process)
    finally:
        await _stop(process)
        await reading
        ready.unlink(missing_ok=True)
        os.close(living)


async def _pass_on(process: asyncio.subprocess.Process, tail: list[str]) -> None:
    """Show what the lab complains about, and keep the last lines for an error message."""
    if process.stderr is None:
        return
    async for raw in process.stderr:
        line = raw.decode(errors="replace").rstrip()
        tail[:] = [*tail[-9:], line]
        with suppress(OSError):  # to be read on is what the lab needs
            sys.stderr.write(f"lab: {line}\n")


async def _wait_ready(process: asyncio.subprocess.Process, ready: Path, tail: list[str]) -> dict[str, str]:
    deadline = asyncio.get_running_loop().time() + _START_S
    while not ready.exists():
        if process.returncode is not None:
            await asyncio.sleep(0.1)
            raise StartRefused("the lab did not start: " + (" | ".join(tail) or f"exit code {process.returncode}"))
        if asyncio.get_running_loop().time() > deadline:
            raise StartRefused(f"the lab did not start within {_START_S:.0f} s")
        await asyncio.sleep(0.02)
    return msgspec.json.decode(ready.read_bytes(), type=dict[str, Any])


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
