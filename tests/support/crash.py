"""A server and its lab as processes that a test may kill apart from each other, and a fleet of any size.

As pytest plug-in: `rig` (one per store for the whole run). Tests add devices of their own and compare, at the end,
what the server says of them with their journals (see `truth`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heliograph.cli.demo import _service_account
from heliograph.domain.permissions import BY_NAME_ONLY
from heliograph.operator_socket import ask_operator
from tests.support.child import LAB, SERVER, Child
from tests.support.demo import STORES, new_database
from tests.support.direct import direct
from tests.support.ports import free_port

Json = dict[str, Any]
WAIT_S = 30
SETTLE_S = 60  # the documented bound: work settles within 60 s after a fault is gone

# The emulators are next door: look often, and retry soon.
QUICK = {
    "HELIOGRAPH_LOOK_UP_CAP_S": "0.5",
    "HELIOGRAPH_LOOK_UPS_PER_MINUTE": "60000",
    "HELIOGRAPH_AMAPI_REQUESTS_PER_MINUTE": "6000",
    "HELIOGRAPH_REQUESTS_PER_MINUTE": "0",
    "HELIOGRAPH_ORGANIZATION_REQUESTS_PER_MINUTE": "0",
    "HELIOGRAPH_UNCERTAINTY_WINDOW_S": "4",
    "HELIOGRAPH_BACKOFF_CAP_S": "2",
    "HELIOGRAPH_LEASE_S": "4",
}
ENTERPRISE = "enterprises/LC0crash001"
GONE = (httpx2.TransportError, ConnectionError)  # the server went away while it was asked


@dataclass(frozen=True)
class Unit:
    """One simulated device."""

    name: str
    platform: str
    provider: str
    id: str
    secret: str
    external: str | None

    @property
    def path(self) -> str:
        """The path of its commands, below the organization."""
        return f"mdm/{self.platform}/enterprise/devices/{self.id}/commands"

    @property
    def has_line(self) -> bool:
        """Whether its agent holds a connection to the server."""
        return self.provider == "builtin"


class Refused(AssertionError):
    """An answer that was to be a success is none."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
        self.answer, self.status = answer, answer.status_code


class Client:
    """The API as a script uses it, many requests at a time."""

    def __init__(self, base_url: str, organization: str, key: str) -> None:
        self.http = direct(
            base_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=WAIT_S + 30.0,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
        )
        self._root = f"/v1/organizations/{organization}"

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """`data` of a success; Refused otherwise."""
        answer = await self.call(method, path, **options)
        if answer.status_code != 200:
            raise Refused(answer)
        return answer.json()["data"]

    async def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Any request inside the organization."""
        return await self.http.request(method, f"{self._root}/{path}", **options)

    async def create(self, unit: Unit, **more: Any) -> Json:
        """A new command (default: LOCK or REBOOT)."""
        default = {"type": "LOCK"} if unit.platform == "android" else {"command": "REBOOT"}
        made: Json = await self.ask("POST", unit.path, json={**default, **more})
        return made

    async def cancel(self, unit: Unit, command_id: str) -> httpx2.Response:
        """The answer to a request to cancel."""
        return await self.call("POST", f"{unit.path}/{command_id}/cancel")

    async def command(self, unit: Unit, command_id: str, wait: int = 0) -> Json:
        """A command as it is now, or once it is over."""
        found: Json = await self.ask("GET", f"{unit.path}/{command_id}", params={"wait": wait} if wait else None)
        return found

    async def over(self, unit: Unit, command_id: str) -> Json:
        """A command that must be over within the documented bound."""
        found = await self.command(unit, command_id, WAIT_S)
        if found["status"] == "PENDING":
            found = await self.command(unit, command_id, WAIT_S)
        assert found["status"] != "PENDING", found
        return found

    async def records(self, unit: Unit) -> list[Json]:
        """All commands of a device."""
        page = await self.ask("GET", unit.path, params={"limit": 10_000})
        assert page["totalDocs"] == len(page["items"])
        items: list[Json] = page["items"]
        return items

    async def send(self, unit: Unit, body: str = "hello", kind: str = "notification") -> Json:
        """A push to the device's agent."""
        message = {"os": unit.platform, "identifier": unit.id, "app": "mdmAgent", "type": kind}
        sent: Json = await self.ask(
            "POST", "mdm/push-notifications/send", json={**message, "notification": {"body": body}}
        )
        return sent

    async def push(self, push_id: str, wait: int = 0) -> Json:
        """A push as it is now, or once it is over."""
        params = {"wait": wait} if wait else None
        found: Json = await self.ask("GET", f"mdm/push-notifications/{push_id}", params=params)
        return found


class LabClient:
    """The lab's control API, and Google's own view of things."""

    def __init__(self, urls: Json) -> None:
        self._urls = urls
        self.http = direct(timeout=60.0)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the control API."""
        answer = await self.http.request(method, self._urls["controlUrl"] + path, json=body)
        if answer.status_code != 200:
            raise Refused(answer)
        return answer.json()

    async def put(self, unit: Unit, **state: Any) -> None:
        """Change `online`, `latencyMs`, `outcome` of a device."""
        await self.ask("PUT", f"/devices/{unit.id}", state)

    async def journal(self, unit: Unit) -> list[Json]:
        """What the device itself says happened."""
        items: list[Json] = (await self.ask("GET", f"/devices/{unit.id}/journal"))["items"]
        return items

    async def operations(self, unit: Unit) -> list[Json]:
        """All operations that Google holds for a device. Asked as no fault would touch it."""
        items: list[Json] = []
        token = ""
        while True:
            query = {"pageSize": "1000"} | ({"pageToken": token} if token else {})
            url = f"{self._urls['amapiUrl']}/v1/{unit.external}/operations"
            answer = await self.http.get(url, params=query, headers={"Authorization": "Bearer test"})
            if answer.status_code != 200:
                raise Refused(answer)
            page = answer.json()
            items += page.get("operations", [])
            token = page.get("nextPageToken", "")
            if not token:
                return items

    async def requests(self, service: str, path: str = "") -> list[Json]:
        """What an emulator has received, at addresses that contain `path`."""
        items: list[Json] = (await self.ask("GET", f"/requests?service={service}"))["items"]
        return [item for item in items if path in item["path"]]

    async def faults(self, *rules: Json) -> None:
        """Rules in force from now on, in place of all others."""
        await self.ask("PUT", "/faults", list(rules))


def fault(service: str, path: str, times: int | None = None, **action: Any) -> Json:
    """A rule for `LabClient.faults`."""
    rule: Json = {"service": service, "match": {"path": path}, "action": action}
    return rule if times is None else rule | {"times": times}


async def until(holds: Callable[[], Awaitable[Any]], what: str, seconds: float = SETTLE_S) -> Any:
    """The first answer that counts as true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (found := await holds()):
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return found


@dataclass
class Rig:
    """The lab, one server on it (`serve all` or another part), an organization with a key, and the fleet so far."""

    folder: Path
    database: str | None
    part: str = "all"
    program: Sequence[str] = SERVER
    env: dict[str, str] = field(default_factory=lambda: dict(QUICK))
    units: list[Unit] = field(default_factory=list)
    specs: list[Json] = field(default_factory=list)
    urls: Json = field(default_factory=dict)

    @property
    def store(self) -> str:
        """The name of the store."""
        return "postgres" if self.database else "sqlite"

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = self.folder / "data"
        self.pushy_key = secrets.token_hex(32)
        ready = self.folder / "lab.json"
        self.lab = Child(
            "lab",
            self.folder,
            [*LAB, "--state-dir", str(self.folder / "lab"), "--ready-file", str(ready)],
            ready=ready,
        )
        self.server = self.node("server", self.part, "--port", str(self.port), data_dir=self.data_dir)
        self._numbers = itertools.count(1)

    def node(self, name: str, part: str, *arguments: str, data_dir: Path, **env: str) -> Child:
        """A server process `heliograph serve PART` on this rig's database, not started."""
        listens = part != "dispatcher"
        ready = self.folder / f"{name}.json" if listens else None
        command = [*self.program, "serve", part, "--data-dir", str(data_dir), *arguments]
        command += ["--database", self.database] if self.database else []
        command += ["--ready-file", str(ready)] if ready else []
        return Child(name, self.folder, command, ready=ready, **{**self.env, **env})

    # ------------------------------------------------------------ processes

    def start(self) -> None:
        """Start both and set up an organization."""
        self.urls = self.lab.start()
        self.server.start()
        asyncio.run(self._set_up())

    def stop(self) -> None:
        """Kill both."""
        self.server.kill()
        self.lab.kill()

    # Started from this thread on purpose: the kernel ends a child with the thread that started it.

    async def restart_server(self) -> None:
        """Kill the server alone and start it again on the same directory."""
        self.server.kill()
        self.server.start()

    async def restart_lab(self) -> None:
        """Kill the lab alone, agents, Google and Pushy with it, and start it again on the same directory."""
        self.lab.kill()
        urls = self.lab.start()
        assert {**urls, "pid": 0} == {**self.urls, "pid": 0}, "the lab has moved"

    async def restart_everything(self) -> None:
        """The plug is pulled: both are killed in the same breath, and started again."""
        self.server.kill()
        self.lab.kill()
        self.lab.start()
        self.server.start()

    # ------------------------------------------------------------ set-up

    async def operator(self, verb: str, organization: str | None = None, **body: Any) -> Json:
        """A set-up verb through the operator's socket."""
        return await ask_operator(self.data_dir, verb, organization, body)

    async def _set_up(self) -> None:
        self.organization: str = (await self.operator("organization.create", slug="crash"))["id"]
        self.key: str = (await self.operator("key.create", self.organization, permissions=["*", *BY_NAME_ONLY]))[
            "secret"
        ]
        await self.connect(ENTERPRISE)
        config = {"apiKey": self.pushy_key, "baseUrl": self.urls["pushyUrl"]}
        await self.operator(
            "provider.add", self.organization, provider="pushy", name="lab", config=config, default=True
        )

    async def connect(self, enterprise: str) -> None:
        """An enterprise at Google, with credentials of its own."""
        credentials = _service_account(f"{self.urls['amapiUrl']}/token").decode()
        where = {"credentials": credentials, "apiUrl": self.urls["amapiUrl"]}
        await self.operator("enterprise.add", self.organization, name=enterprise, **where)

    async def add(
        self,
        platform: str,
        count: int,
        provider: str = "builtin",
        *,
        online: bool = True,
        enterprise: str = ENTERPRISE,
        **amapi: Any,
    ) -> list[Unit]:
        """New devices, in the server's books and in the lab. Those that are online have registered.

        `amapi` = what Google knows of them besides; the server's books say nothing of that.
        """
        names = [f"{platform}-{provider}-{next(self._numbers)}" for _ in range(count)]
        wanted = [{"platform": platform, "name": name} for name in names]
        if platform == "android":
            wanted = [{**w, "externalName": f"{enterprise}/devices/{w['name'].replace('-', '')}"} for w in wanted]
        made = (await self.operator("device.import", self.organization, devices=wanted))["items"]
        new = [Unit(m["name"], platform, provider, m["id"], m["agentSecret"], m["externalName"]) for m in made]
        self.units += new
        self.specs += [self._spec(unit, online, amapi) for unit in new]
        lab = LabClient(self.urls)
        try:
            await lab.ask("PUT", "/fleet", self.specs)
        finally:
            await lab.http.aclose()
        if online:
            async with self.client() as client:
                for unit in new:
                    await until(partial(self._has_registered, client, unit), "the new agents register")
        return new

    async def _has_registered(self, client: Client, unit: Unit) -> bool:
        """A push is only taken for an agent that has registered."""
        try:
            await client.send(unit, kind="silent")
        except Refused as refused:
            if refused.status != 404:
                raise
            return False
        return True

    def _spec(self, unit: Unit, online: bool, more: Json) -> Json:
        android = unit.platform == "android"
        amapi = {"name": unit.external, "ownership": "COMPANY_OWNED", "managementMode": "DEVICE_OWNER", "apiLevel": 36}
        return {
            "deviceId": unit.id,
            "name": unit.name,
            "platform": unit.platform,
            "serialNumber": unit.name.replace("-", ""),
            "provider": unit.provider,
            "online": online,
            "secret": unit.secret,
            "apps": ["mdmAgent"],
            "serverUrl": self.url,
            "amapi": {**amapi, **more} if android else None,
            "pushy": {"apiKey": self.pushy_key} if unit.provider == "pushy" else None,
        }

    # ------------------------------------------------------------ clients

    @contextlib.asynccontextmanager
    async def client(self, url: str | None = None) -> AsyncIterator[Client]:
        """The API with the organization's key."""
        client = Client(url or self.url, self.organization, self.key)
        async with client.http:
            yield client

    @contextlib.asynccontextmanager
    async def lab_client(self) -> AsyncIterator[LabClient]:
        """The lab's control API. Faults are cleared at the end."""
        lab = LabClient(self.urls)
        async with lab.http:
            try:
                yield lab
            finally:
                with contextlib.suppress(*GONE):
                    await lab.faults()


@contextlib.contextmanager
def running_rig(
    folder: Path, database: str | None, part: str = "all", program: Sequence[str] = SERVER, **env: str
) -> Iterator[Rig]:
    """A rig for a block. What its processes complained about is shown after a failure."""
    rig = Rig(folder, database, part, program, {**QUICK, **env})
    try:
        rig.start()
        yield rig
    except BaseException:
        for child in (rig.server, rig.lab):
            with contextlib.suppress(OSError):
                sys.stderr.write(f"--- {child.name}\n{child.complaints()[-4000:]}\n")
        raise
    finally:
        rig.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # Other folders have a fixture of that name which is theirs alone.
    if "rig" in metafunc.fixturenames and metafunc.module.__name__.startswith(("tests.e2e.", "tests.faults.")):
        metafunc.parametrize("rig", STORES, indirect=True, scope="session")


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The rig that tests on this store share."""
    folder = tmp_path_factory.mktemp(f"rig-{request.param}")
    with new_database(request.param, request) as database, running_rig(folder, database) as running:
        yield running
