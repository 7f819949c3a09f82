"""Through a real broker: the server publishes, the agent is woken, and its check-in is the proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.child import AGENT, Child
from tests.support.crash import Client, Rig, Unit, until
from tests.support.mosquitto import PREFIX, Mosquitto, mosquitto


async def device_of(rig: Rig) -> Unit:
    """A device in the server's books; its agent is the test's."""
    wanted = [{"platform": "aosp", "name": f"mqtt-{next(rig._numbers)}"}]
    [made] = (await rig.operator("device.import", rig.organization, devices=wanted))["items"]
    return Unit(made["name"], "aosp", "mqtt", made["id"], made["agentSecret"], None)


@contextmanager
def agent_of(rig: Rig, unit: Unit, broker: Mosquitto, folder: Path) -> Iterator[Child]:
    """The reference agent as a process, which the broker wakes."""
    state, line = folder / "agent", ["--line", "mqtt", "--broker", f"{broker.url}/{PREFIX}"]
    command = [*AGENT, "--server", rig.url, *line, "--state-dir", str(state), "--simulate"]
    agent = Child("agent", folder, command)
    agent.env = {
        "HELIOGRAPH_AGENT_SECRET": unit.secret,
        "HELIOGRAPH_AGENT_BROKER_PASSWORD": broker.passwords[unit.id],
    }
    agent.launch()
    try:
        yield agent
    finally:
        agent.kill()


async def listens(broker: Mosquitto, unit: Unit, count: int = 1) -> None:
    await broker.until_logged(f"Sending SUBACK to {unit.id}-mdmAgent", count)


async def account(rig: Rig, broker: Mosquitto) -> None:
    """The server's account at this broker, in place of that of the test before."""
    how = {"provider": "mqtt", "name": "broker", "config": broker.account(), "default": True}
    await rig.operator("provider.add", rig.organization, **how)


async def test_a_command_and_a_notification_arrive_through_the_broker(rig: Rig, tmp_path: Path) -> None:
    unit = await device_of(rig)
    with mosquitto(tmp_path, [unit.id]) as broker:
        await account(rig, broker)
        with agent_of(rig, unit, broker, tmp_path):
            await listens(broker, unit)
            async with rig.client() as client:
                command = await client.create(unit)
                record = await client.over(unit, command["id"])
                assert record["progress"]["rung"] == "succeeded", record
                await acknowledged(client, (await client.send(unit))["id"])
        published = broker.log().count("Received PUBLISH from heliograph-")
        assert published >= 2, "both went through the broker"


async def test_what_waits_for_an_agent_that_is_away_wakes_it_at_its_return(rig: Rig, tmp_path: Path) -> None:
    unit = await device_of(rig)
    with mosquitto(tmp_path, [unit.id]) as broker:
        await account(rig, broker)
        with agent_of(rig, unit, broker, tmp_path):
            await listens(broker, unit)
        async with rig.client() as client:
            sent = [(await client.send(unit, f"hello {number}"))["id"] for number in range(3)]
            for push_id in sent:
                await broker.until_saved(push_id.lower().encode())
            broker.kill()
            broker.start()
            with agent_of(rig, unit, broker, tmp_path) as agent:
                for push_id in sent:
                    await acknowledged(client, push_id)
                shown = (tmp_path / "agent.out").read_text()
                assert [shown.count(f"hello {number}") for number in range(3)] == [1, 1, 1], agent.complaints()


async def acknowledged(client: Client, push_id: str) -> None:
    async def is_acknowledged() -> bool:
        return bool((await client.push(push_id))["status"] == "acknowledged")

    await until(is_acknowledged, "the agent acknowledges the push")
