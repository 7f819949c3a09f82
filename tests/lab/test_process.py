"""The lab as a process: how it starts, what it leaves behind, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heliograph_lab.kernel import Kernel, StateDirInUseError
from tests.lab.serving import until
from tests.support.direct import direct

DEVICE = {"deviceId": "d1", "name": "n", "platform": "aosp"}
# Starts the lab as its child, then does nothing until it is killed.
PARENT = """
import os, subprocess, sys, time
subprocess.Popen([*sys.argv[1:], "--with-parent", str(os.getpid())])
time.sleep(600)
"""


class Process:
    """`python -m heliograph_lab` on a state directory."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.ready_file = folder / "ready.json"
        self.stderr = folder / "stderr"
        self.running: list[subprocess.Popen[bytes]] = []

    def command(self, *more: str) -> list[str]:
        paths = ["--state-dir", str(self.state_dir), "--ready-file", str(self.ready_file)]
        return [sys.executable, "-m", "heliograph_lab", *paths, *more]

    def spawn(self, *more: str, program: list[str] | None = None) -> subprocess.Popen[bytes]:
        with self.stderr.open("ab") as stderr:
            process = subprocess.Popen(program or self.command(*more), stderr=stderr)
        self.running.append(process)
        return process

    async def start(self, *more: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        self.ready_file.unlink(missing_ok=True)
        process = self.spawn(*more)
        return process, await self.ready(process)

    async def ready(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        await until(lambda: self.ready_file.exists() or process.poll() is not None)
        assert process.poll() is None, self.stderr.read_text()
        ready: dict[str, Any] = json.loads(self.ready_file.read_text())
        return ready

    def is_free(self) -> bool:
        """Whether no process holds the state directory."""
        try:
            Kernel(self.state_dir).close()
        except StateDirInUseError:
            return False
        return True


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    for running in process.running:
        running.kill()
        running.wait()


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_ends_cleanly(lab: Process, number: signal.Signals) -> None:
    process, ready = await lab.start()
    assert ready["pid"] == process.pid
    async with direct() as client:
        assert (await client.get(f"{ready['controlUrl']}/health")).json() == {"status": "ok"}
        assert (await client.get(f"{ready['pushyUrl']}/topics?api_key=k")).json() == {"topics": []}
        assert (await client.get(f"{ready['amapiUrl']}/v1/enterprises/x/devices")).status_code == 401
        assert (await client.get(f"{ready['pubsubUrl']}/v1/projects/p1/topics")).json() == {}
        trusted = ssl.create_default_context(cafile=ready["caPath"])
        for service in ("apns", "fcm"):
            port = int(ready[f"{service}Url"].rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
            writer.close()
            assert (await client.get(f"{ready['controlUrl']}/connections/{service}")).json()["connections"] == 1
        assert (await client.post(f"{ready['webpushUrl']}/push/x")).status_code == 404
        assert (await client.get(f"{ready['controlUrl']}/webpush/subscriptions")).json() == {"items": []}
        assert (await client.post(f"{ready['wnsUrl']}/?token=none")).status_code == 401
        opened = await client.post(f"{ready['controlUrl']}/wns/channels", json={"app": "some-app"})
        assert opened.json()["uri"].startswith(f"{ready['wnsUrl']}/?token=")
        (recorded,) = (await client.get(f"{ready['controlUrl']}/requests?service=pubsub")).json()["items"]
        assert recorded["path"] == "/v1/projects/p1/topics"
        (recorded,) = (await client.get(f"{ready['controlUrl']}/requests?service=amapi")).json()["items"]
        assert recorded["path"] == "/v1/enterprises/x/devices"
    process.send_signal(number)
    assert ended(process) == 0
    assert lab.stderr.read_text() == ""
    assert lab.is_free()


async def test_what_it_keeps_is_for_its_user_alone(lab: Process) -> None:
    lab.state_dir.mkdir(mode=0o755)  # somebody else was first
    before = os.umask(0o022)
    try:
        await lab.start()
    finally:
        os.umask(before)
    kept = [lab.state_dir, lab.ready_file, *lab.state_dir.rglob("*")]
    assert len(kept) >= 4
    assert [path for path in kept if path.stat().st_mode & 0o077] == []


async def test_a_signal_while_starting_leaves_no_traceback(lab: Process) -> None:
    process = lab.spawn()
    await until((lab.state_dir / "lab.lock").exists)
    process.send_signal(signal.SIGINT)
    assert ended(process) == 0
    assert "Traceback" not in lab.stderr.read_text()


async def test_sigkill_loses_nothing_and_ports_stay(lab: Process) -> None:
    process, ready = await lab.start()
    async with direct() as client:
        await client.put(f"{ready['controlUrl']}/fleet", json=[DEVICE])
        await client.put(f"{ready['controlUrl']}/devices/d1", json={"online": False, "latencyMs": 7})
        await client.put(f"{ready['controlUrl']}/clock", json={"advanceSeconds": 3600})
        devices = (await client.get(f"{ready['controlUrl']}/devices")).json()
        process.kill()
        ended(process)
        _, again = await lab.start()
        assert {**again, "pid": 0} == {**ready, "pid": 0}
        assert (await client.get(f"{ready['controlUrl']}/devices")).json() == devices
        assert (await client.get(f"{ready['controlUrl']}/clock")).json()["offsetSeconds"] == 3600


async def test_a_taken_port_is_named(lab: Process) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        process = lab.spawn("--pushy-port", str(port))
        assert ended(process) == 1
    (line,) = lab.stderr.read_text().splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "pushy" in line
    assert not lab.ready_file.exists()


async def test_a_directory_in_use_is_refused(lab: Process) -> None:
    await lab.start()
    assert ended(lab.spawn()) == 6  # as the command line documents it
    assert "in use" in lab.stderr.read_text()
    assert lab.ready_file.exists()


async def test_what_is_under_way_ends_quietly(lab: Process) -> None:
    process, ready = await lab.start()
    control = ready["controlUrl"]
    async with direct(timeout=60) as client:
        await client.put(f"{control}/faults", json=[{"service": "pushy", "action": {"delayMs": 600_000}}])
        slow = asyncio.create_task(client.get(f"{ready['pushyUrl']}/topics?api_key=k"))
        while not (await client.get(f"{control}/requests?service=pushy")).json()["items"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        process.terminate()
        with pytest.raises(httpx2.TransportError):
            await slow
    assert ended(process) == 0
    assert lab.stderr.read_text() == ""


async def test_a_waiting_pull_ends_quietly(lab: Process) -> None:
    process, ready = await lab.start()
    subscription = "/v1/projects/p1/subscriptions/waiting"
    async with direct(ready["pubsubUrl"], timeout=60) as client:
        await client.put("/v1/projects/p1/topics/amapi", json={})
        await client.put(subscription, json={"topic": "projects/p1/topics/amapi"})
        waiting = asyncio.create_task(client.post(f"{subscription}:pull", json={"maxMessages": 1}))
        async with direct(ready["controlUrl"]) as control:
            while len((await control.get("/requests?service=pubsub")).json()["items"]) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        process.terminate()
        with pytest.raises(httpx2.TransportError):
            await waiting
    assert ended(process) == 0
    assert lab.stderr.read_text() == ""


async def test_foreign_names_are_refused(lab: Process) -> None:
    _, ready = await lab.start()
    async with direct(ready["controlUrl"]) as client:
        refused = await client.get("/requests", headers={"Host": "evil.example"})
        assert (refused.status_code, refused.json()) == (400, {"error": "call the lab by a loopback address"})
        assert (await client.get("/requests", headers={"Host": "localhost:1"})).status_code == 200


async def test_other_machines_are_kept_out(lab: Process) -> None:
    assert ended(lab.spawn("--host", "0.0.0.0")) == 1
    assert "loopback only" in lab.stderr.read_text()


async def test_ends_with_its_parent(lab: Process) -> None:
    parent = lab.spawn(program=[sys.executable, "-c", PARENT, *lab.command()])
    ready = await lab.ready(parent)
    assert not lab.is_free()
    parent.kill()
    ended(parent)
    await until(lab.is_free)
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"{ready['controlUrl']}/health", trust_env=False)


async def test_a_stranger_is_no_parent(lab: Process) -> None:
    assert ended(lab.spawn("--with-parent", str(os.getppid()))) == 1
    assert "is not the parent" in lab.stderr.read_text()
