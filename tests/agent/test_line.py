"""What a server can do to an agent, and the agent lives on."""

import asyncio
import logging
from pathlib import Path

import pytest

from heliograph_agent import Agent, AgentConfig, JournalInUse
from heliograph_protocol.messages import Target
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import SECRET, FakeServer

LINES = ["websocket", "poll", "none"]


async def test_registers_its_targets(server: FakeServer, running: Running) -> None:
    async with running(targets=[Target(provider="pushy", token="t1")]):
        await server.until(lambda: len(server.check_ins) > 0)
    assert [(r.app, r.targets) for r in server.registered] == [("mdmAgent", [Target(provider="pushy", token="t1")])]


@pytest.mark.parametrize("line", ["websocket", "poll", "none"])
async def test_registers_again_now_and_then(
    line: str, server: FakeServer, device: Device, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph_agent.agent.REGISTER_AGAIN", 0.2)
    async with running(line=line):
        await server.until(lambda: len(server.registered) > 2)
        command = await server.command("late")
        await server.until(lambda: command.over)
    assert device.executed == ["late"]


@pytest.mark.parametrize("line", LINES)
async def test_survives_a_server_that_goes_and_comes(
    line: str, server: FakeServer, device: Device, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "heliograph_agent")
    lost = asyncio.Event()

    def hear(record: logging.LogRecord) -> bool:
        if "no line" in record.getMessage():
            lost.set()
        return True

    caplog.handler.addFilter(hear)
    async with running(line=line) as agent:
        await server.until(lambda: len(server.check_ins) > 0)
        await server.stop()
        command = await server.command("c1")
        if line != "none":  # one that polls may be between two polls, and has to notice first
            agent.wake()
            async with asyncio.timeout(30):
                await lost.wait()
        await server.start()
        agent.wake()
        await server.until(lambda: command.over)
    assert device.executed == ["c1"]
    said = [record.getMessage() for record in caplog.records if record.name == "heliograph_agent"]
    told = [word for message in said for word in ("connected to", "no line", "again") if word in message]
    assert told[0] == "connected to"
    if line != "none":  # without a line that is held none is missed
        assert ("no line" in told, said[-1].endswith(" again")) == (True, True)


@pytest.mark.parametrize("line", LINES)
async def test_survives_errors(line: str, server: FakeServer, device: Device, running: Running) -> None:
    server.failing = [500, 503, 404, 502, 500, 429]
    command = await server.command("c1")
    async with running(line=line):
        await server.until(lambda: command.over)
    assert server.failing == []


async def test_survives_bad_frames(server: FakeServer, device: Device, running: Running) -> None:
    async with running():
        for frame in ["nonsense", "[]", '{"seq": "x"}', "\x00", '{"commands": [{}]}']:
            await server.until(lambda: len(server.connections) > 0)
            opened = server.opened
            await server.say_raw(frame)
            await server.until(lambda: server.opened > opened)  # noqa: B023 - awaited within the turn
        command = await server.command("c1")
        await server.until(lambda: command.over)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"cancels": ["\xff"]}',
        b'{"pushes": [{"id": "p", "kind": "silent", "expiresInMs": 1, "data": {"a": %b%b}}]}'
        % (b"[" * 5000, b"]" * 5000),
        # What can be read within Python's bounds, and perhaps not be written within them.
        b'{"commands": [{"id": "c", "type": "LOCK", "expiresInMs": 60000, "params": {"a": %b%b}}]}'
        % (b"[" * 100, b"]" * 100),
        # What has to be repeated to the server, and would fit into no message.
        b'{"commands": [{"id": "%b", "type": "LOCK", "expiresInMs": 60000}]}' % (b"c" * 200_000),
        b'{"pushes": [{"id": "%b", "kind": "silent", "expiresInMs": 60000}]}' % (b"p" * 200_000),
        b'{"cancels": ["%b"]}' % (b"c" * 200_000),
        b'{"commands": [{"id": "c", "type": "LOCK", "expiresInMs": %b}]}' % (b"9" * 400),
    ],
    ids=["not Unicode", "nested", "nested params", "long command id", "long push id", "long cancel", "long life"],
)
async def test_survives_frames_that_a_decoder_chokes_on(
    frame: bytes, server: FakeServer, device: Device, running: Running
) -> None:
    async with running():
        await server.until(lambda: len(server.connections) > 0)
        opened = server.opened
        for connection in list(server.connections):
            await connection.send({"type": "websocket.send", "bytes": frame})
        await server.until(lambda: server.opened > opened)
        command = await server.command("c1")
        await server.until(lambda: command.over)


async def test_a_server_that_never_answers_is_left(server: FakeServer, device: Device, running: Running) -> None:
    server.answering.clear()
    async with running(answer_timeout=0.2):
        await server.until(lambda: server.opened >= 2)
        server.answering.set()
        command = await server.command("c1")
        await server.until(lambda: command.over)


@pytest.mark.parametrize("line", LINES)
async def test_a_wrong_secret_is_tried_slowly_and_told_once(
    line: str, server: FakeServer, device: Device, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    command = await server.command("c1")
    with caplog.at_level(logging.DEBUG):
        async with running(line=line, secret="wrong-secret-5b2f"):
            await server.until(lambda: server.refusals >= 4)
    told = [record for record in caplog.records if record.name == "heliograph_agent"]
    assert [record.getMessage() for record in told] == [
        "mdmAgent: no line to the server (the server answered 401 UNKNOWN_SECRET); trying again"
    ]
    assert not any("wrong-secret" in r.getMessage() for r in caplog.records if not r.name.startswith("uvicorn"))
    assert device.executed == []
    assert not command.claimed
    assert server.check_ins == []


@pytest.mark.parametrize("line", ["websocket", "poll"])
async def test_nothing_secret_is_logged(
    line: str, server: FakeServer, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    command = await server.command("c1", newPassword="hunter22")
    with caplog.at_level(logging.DEBUG):
        async with running(line=line):
            await server.until(lambda: command.over)
            await server.say_raw('{"commands": [{"id": "x", "params": {"newPassword": "hunter22"}}]}')
            marker = await server.command("marker")
            await server.until(lambda: marker.over)
    # The server logs in the same process, and its frames are its own affair.
    text = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn"))
    assert SECRET not in text
    assert "hunter22" not in text


async def test_a_journal_belongs_to_one_agent(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    async with running():
        await server.until(lambda: len(server.check_ins) > 0)
        with pytest.raises(JournalInUse):
            await Agent(AgentConfig(server_url=server.url, secret=SECRET, state_path=journal), device).run()


async def test_many_agents_share_a_client_and_a_loop(server: FakeServer, tmp_path: Path) -> None:
    """One device speaks for all here; what counts is what an agent costs."""
    before = len(asyncio.all_tasks())
    device = Device()

    async def one(number: int) -> None:
        config = AgentConfig(
            server_url=server.url,
            secret=SECRET,
            state_path=tmp_path / f"{number}.journal",
            ping=None,
        )
        await Agent(config, device).run()

    agents = [asyncio.create_task(one(number)) for number in range(50)]
    await server.until(lambda: server.opened == 50 and len(server.check_ins) >= 50)
    # The server's own tasks (two for a connection) count as well.
    assert len(asyncio.all_tasks()) - before <= 50 * 8
    for agent in agents:
        agent.cancel()
    await asyncio.gather(*agents, return_exceptions=True)
