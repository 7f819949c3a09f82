"""SIGKILL of a real agent process at each step: what it had accepted is done once, and told."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.agent.fake_server import SECRET, Command, FakeServer

ROOT = Path(__file__).parents[2]
POINTS = ["received", "acknowledged", "before-effect", "after-effect", "before-display", "after-display"]
# The header, `received`, `started`, `finished`, the blanked params, what is settled; the last ones may not be reached.
POINTS += [f"{kind}-{number}" for kind in ("write", "torn") for number in range(1, 9)]


@asynccontextmanager
async def agent_process(
    server: FakeServer, folder: Path, *, point: str = "never", knows: bool = True, line: str = "websocket"
) -> AsyncIterator[asyncio.subprocess.Process]:
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("doomed.py")),
        *[server.url, SECRET, str(folder), line, "yes" if knows else "no", point],
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def lines(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().split() if path.exists() else []


async def die_and_live(server: FakeServer, folder: Path, point: str, *, knows: bool, line: str) -> Command:
    """One life that ends at `point`, and another that ends when all is told."""
    command = await server.command("c1", newPassword="hunter22")
    await server.push("p1")

    def told() -> bool:
        return command.over and "p1" in server.acked

    async with agent_process(server, folder, point=point, knows=knows, line=line) as process:
        all_told = asyncio.ensure_future(server.until(told))
        await asyncio.wait({asyncio.ensure_future(process.wait()), all_told}, return_when=asyncio.FIRST_COMPLETED)
        all_told.cancel()
        await asyncio.gather(all_told, return_exceptions=True)
        if not told():
            assert process.returncode == -signal.SIGKILL
    async with agent_process(server, folder, knows=knows, line=line):
        await server.until(told)
        # Settled: a further command's report shows that the answers to the earlier ones were read.
        marker = await server.command("c2", newPassword="hunter22")
        await server.until(lambda: marker.over)
    return command


@pytest.mark.parametrize("point", POINTS)
async def test_a_device_that_can_tell_runs_a_command_exactly_once(
    point: str, server: FakeServer, tmp_path: Path
) -> None:
    command = await die_and_live(server, tmp_path, point, knows=True, line="websocket")
    assert lines(tmp_path, "executed") == ["c1", "c2"]
    assert set(command.rungs) == {"acknowledged", "succeeded"}
    assert set(lines(tmp_path, "received")) == set(lines(tmp_path, "acknowledged")) == {"c1", "c2"}
    # A notification whose showing was cut is shown again, every other one once.
    assert lines(tmp_path, "displayed") in [["p1"], ["p1", "p1"]]
    assert b"hunter22" not in (tmp_path / "agent.journal").read_bytes()


@pytest.mark.parametrize(
    "point", ["before-effect", "after-effect", "write-2", "write-3", "write-4", "torn-3", "torn-4"]
)
async def test_a_device_that_cannot_tell_runs_a_command_at_most_once(
    point: str, server: FakeServer, tmp_path: Path
) -> None:
    command = await die_and_live(server, tmp_path, point, knows=False, line="poll")
    executed = lines(tmp_path, "executed")
    assert executed.count("c1") <= 1
    report = command.reports[-1]
    if report.rung == "succeeded":
        assert executed.count("c1") == 1
    else:
        assert report.error is not None
        assert report.error.code == "OUTCOME_UNKNOWN"


async def test_killed_while_the_server_holds_the_answer(server: FakeServer, tmp_path: Path) -> None:
    command = await server.command("c1", newPassword="hunter22")
    server.dropping = lambda message: any(report.rung == "succeeded" for report in message.reports)
    async with agent_process(server, tmp_path) as process:
        await server.until(lambda: command.over)
        process.kill()
        await process.wait()
    server.dropping = lambda _: False
    before = command.rungs.count("succeeded")
    async with agent_process(server, tmp_path):
        await server.until(lambda: command.rungs.count("succeeded") > before)
    assert lines(tmp_path, "executed") == ["c1"]


async def test_agent_and_server_killed_between_claim_and_acknowledgement(server: FakeServer, tmp_path: Path) -> None:
    command = await server.command("c1", newPassword="hunter22")
    async with agent_process(server, tmp_path, point="received") as process:
        await process.wait()
    assert command.claimed
    await server.stop()
    await server.start()
    async with agent_process(server, tmp_path):
        await server.until(lambda: command.over)
    assert lines(tmp_path, "executed") == ["c1"]
