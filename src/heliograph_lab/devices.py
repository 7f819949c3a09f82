"""Brings the fleet to life: for each device and each of its apps a reference agent, on line as the device is."""

import asyncio
import contextlib
import logging
from pathlib import Path
from urllib.parse import quote

import httpx2
import msgspec

from heliograph_agent import Agent, AgentConfig
from heliograph_lab.effector import LabEffector
from heliograph_lab.fleet import DeviceSpec, DeviceState, Fleet
from heliograph_lab.kernel import Kernel
from heliograph_lab.pushy import Push, PushyEmulator
from heliograph_protocol.messages import PushOffer, Target

_log = logging.getLogger(__name__)
_RETRY = 1.0


class Devices:
    """Follows the fleet: starts and stops agents as devices come, go, and change."""

    def __init__(self, kernel: Kernel, fleet: Fleet, pushy: PushyEmulator) -> None:
        self._kernel = kernel
        self._fleet = fleet
        self._pushy = pushy
        self._runners: dict[str, _Runner] = {}
        self._http: httpx2.AsyncClient | None = None

    async def start(self) -> None:
        """Bring up what is on line."""
        # One client for all agents; they speak to a server on this machine, without proxy or certificates.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx2.AsyncClient(trust_env=False, limits=limits)
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
            runner = self._runners[device_id] = _Runner(self._kernel, self._pushy, self._http)
        runner.apply(device)


class _Runner:
    """One device. Changes are carried out one after another; only the last wish counts."""

    def __init__(self, kernel: Kernel, pushy: PushyEmulator, http: httpx2.AsyncClient) -> None:
        self._kernel = kernel
        self._pushy = pushy
        self._http = http
        self._wish: DeviceState | None = None
        self._running: DeviceSpec | None = None
        self._effectors: list[LabEffector] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._tokens: list[str] = []
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
            token = await self._pushy_token(spec, app)
            # The wish may have changed again meanwhile; if it is another spec, the next round sees to that.
            if self._wish is None:
                return
            effector = LabEffector(self._kernel, self._wish, app)
            self._effectors.append(effector)
            agent = Agent(self._config(spec, app, token), effector, http=self._http)
            self._tasks.append(asyncio.create_task(_keep(agent, spec, app)))
            if token is not None:
                self._tokens.append(token)
                await self._pushy.connect(token, _Receiver(self._kernel, agent))

    async def _down(self) -> None:
        for token in self._tokens:
            await self._pushy.disconnect(token)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._effectors, self._tasks, self._tokens, self._running = [], [], [], None

    async def _pushy_token(self, spec: DeviceSpec, app: str) -> str | None:
        if spec.provider != "pushy" or spec.pushy is None:
            return None
        return await self._pushy.register(spec.pushy.api_key, f"{spec.device_id}/{app}")

    def _config(self, spec: DeviceSpec, app: str, token: str | None) -> AgentConfig:
        return AgentConfig(
            server_url=spec.server_url,
            secret=spec.secret,
            app=app,
            state_path=journal_path(self._kernel.state_dir, spec.device_id, app),
            line="websocket" if token is None else "none",
            targets=[Target(provider="builtin") if token is None else Target(provider="pushy", token=token)],
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


class _Receiver:
    """The app's end of Pushy: hands what arrives to the agent, and returns once that has it on disk."""

    def __init__(self, kernel: Kernel, agent: Agent) -> None:
        self._clock = kernel.clock
        self._agent = agent

    async def __call__(self, push: Push) -> None:
        left = push.expiration - self._clock.now().timestamp()
        try:
            offer = msgspec.convert({**push.payload, "expiresInMs": max(1, int(left * 1000))}, PushOffer)
        except msgspec.ValidationError as error:
            _log.warning("the app ignores push %s, which is none of Heliograph's: %s", push.id, error)
            return
        await self._agent.receive(offer)
