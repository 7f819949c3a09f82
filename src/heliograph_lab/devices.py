"""Brings the fleet to life: for each device and each of its apps a reference agent, on line as the device is."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import httpx2

from heliograph_agent import Agent, AgentConfig
from heliograph_agent.lines import system_authorities
from heliograph_lab.effector import LabEffector
from heliograph_lab.fleet import DeviceSpec, DeviceState, Fleet
from heliograph_lab.kernel import Kernel
from heliograph_lab.push_lines import PushLine
from heliograph_protocol.messages import Target

_log = logging.getLogger(__name__)
_RETRY = 1.0


class Devices:
    """Follows the fleet: starts and stops agents as devices come, go, and change."""

    def __init__(self, kernel: Kernel, fleet: Fleet, lines: Mapping[str, PushLine]) -> None:
        self._kernel = kernel
        self._fleet = fleet
        self._lines = lines
        self._runners: dict[str, _Runner] = {}
        self._http: httpx2.AsyncClient | None = None

    async def start(self) -> None:
        """Bring up what is on line."""
        # One client for all agents; they speak to a server on this machine, without proxy or certificates.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx2.AsyncClient(verify=system_authorities(), trust_env=False, limits=limits)
        for device in self._fleet.devices():
            self._apply(device)
        self._fleet.subscribe(self._apply)

    async def stop(self) -> None:
        """Stop every agent; the devices' states stay as they are."""
        runners, self._runners = self._runners, {}
        await asyncio.gather(*(runner.close() for runner in runners.values()))
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def settled(self, device_id: str | None = None) -> None:
        """Return once the device's agents (all devices' without an id) have been started or stopped as wished."""
        runners = [runner for key, runner in self._runners.items() if device_id in {None, key}]
        await asyncio.gather(*(runner.settled() for runner in runners))

    def _apply(self, device: DeviceState) -> None:
        if self._http is None:
            return  # the lab is ending
        device_id = device.spec.device_id
        runner = self._runners.get(device_id)
        if runner is None:
            runner = self._runners[device_id] = _Runner(self._kernel, self._lines, self._http)
        runner.apply(device)


class _Runner:
    """One device. Changes are carried out one after another; only the last wish counts."""

    def __init__(self, kernel: Kernel, lines: Mapping[str, PushLine], http: httpx2.AsyncClient) -> None:
        self._kernel = kernel
        self._lines = lines
        self._http = http
        self._wish: DeviceState | None = None
        self._running: DeviceSpec | None = None
        self._effectors: list[LabEffector] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._addresses: list[Target] = []
        self._wished = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._task = asyncio.create_task(self._work())

    def apply(self, device: DeviceState) -> None:
        """The device shall be like this."""
        self._wish = device
        for effector in self._effectors:
            effector.change(device)
        self._at_rest.clear()
        self._wished.set()

    async def settled(self) -> None:
        """Return once the last wish is fulfilled."""
        await self._at_rest.wait()

    async def close(self) -> None:
        """Stop the device's agents and this runner."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._down()
        self._at_rest.set()

    async def _work(self) -> None:
        while True:
            await self._wished.wait()
            self._wished.clear()
            try:
                await self._fulfil()
            except Exception:  # noqa: BLE001 - one device's trouble is not the others'
                _log.exception("a simulated device could not be brought up or down; trying again")
                await asyncio.sleep(_RETRY)
                self._wished.set()
                continue
            if not self._wished.is_set():
                self._at_rest.set()

    async def _fulfil(self) -> None:
        wish = self._wish
        if wish is None:
            return
        online = wish.online and not wish.removed and wish.spec.server_url != ""
        wanted = wish.spec if online else None
        if self._running != wanted:
            await self._down()
            if wanted is not None:
                await self._up(wanted)
            self._running = wanted

    async def _up(self, spec: DeviceSpec) -> None:
        for app in spec.apps:
            line = self._lines.get(spec.provider)
            address = None if line is None else await line.address(spec, app)
            # The wish may have changed again meanwhile; if it is another spec, the next round sees to that.
            if self._wish is None:
                return
            effector = LabEffector(self._kernel, self._wish, app)
            self._effectors.append(effector)
            agent = Agent(self._config(spec, app, address), effector, http=self._http)
            self._tasks.append(asyncio.create_task(_keep(agent, spec, app)))
            if line is not None and address is not None:
                self._addresses.append(address)
                await line.connect(address.token, agent.receive)

    async def _down(self) -> None:
        for address in self._addresses:
            await self._lines[address.provider].disconnect(address.token)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._effectors, self._tasks, self._addresses, self._running = [], [], [], None

    def _config(self, spec: DeviceSpec, app: str, address: Target | None) -> AgentConfig:
        return AgentConfig(
            server_url=spec.server_url,
            secret=spec.secret,
            app=app,
            state_path=journal_path(self._kernel.state_dir, spec.device_id, app),
            line="websocket" if address is None else "none",
            targets=[address or Target(provider="builtin")],
            grace=0.2,  # a device that goes off line does so now
            backoff_cap=1.0,
            refused_cap=5.0,
        )


def journal_path(state_dir: Path, device_id: str, app: str) -> Path:
    """Where the agent of this app keeps its own journal."""
    return state_dir / "agents" / f"{quote(device_id, safe='')}.{quote(app, safe='')}.jsonl"


async def _keep(agent: Agent, spec: DeviceSpec, app: str) -> None:
    while True:
        try:
            await agent.run()
        except Exception:  # noqa: BLE001 - an agent that has fallen over is started again, as on a real device
            _log.exception("the agent %s of %s has ended; starting it again", app, spec.name)
        await asyncio.sleep(_RETRY)
