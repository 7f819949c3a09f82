"""`heliograph up --demo` as a process of its own, for tests that see the server as its users do.

As pytest plug-in: `demo` (one server per store for the whole run), `fresh_demo` (one for a single test), `lab` (the
demo's lab, put back after each test). Tests run on both stores unless they are marked `sqlite_only`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from heliograph.operator_socket import ask_operator
from tests.support import contract
from tests.support.client import Api, Device, Json, Lab, http
from tests.support.postgres import Postgres, end_with_parent

STORES = ("sqlite", "postgres")
START_S = 60
STOP_S = 30
PROGRAM = [sys.executable, "-m", "heliograph"]


class Server:
    """One `heliograph up` on a data directory. It can be ended, killed, and started again on what it left."""

    def __init__(
        self, folder: Path, *arguments: str, database: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "var"
        self.ready_file = folder / "ready.json"
        self.database = database
        self._arguments = list(arguments)
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}
        self._env |= env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._family: list[psutil.Process] = []
        self.ready: Json = {}

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None, "not started"
        return self._process

    def stderr(self) -> str:
        """All that it has complained about, over all starts."""
        return (self.folder / "stderr").read_text(errors="replace")

    def stdout(self) -> str:
        """All that it has said, over all starts."""
        return (self.folder / "stdout").read_text(errors="replace")

    def start(self) -> Json:
        """Start it and wait for the ready file, which is what it returns."""
        self.ready_file.unlink(missing_ok=True)
        command = [*PROGRAM, "up", *self._arguments, "--port", "0", "--data-dir", str(self.data_dir)]
        command += ["--ready-file", str(self.ready_file)]
        command += ["--database", self.database] if self.database else []
        with (self.folder / "stdout").open("ab") as out, (self.folder / "stderr").open("ab") as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._env,
                # A session of its own, so that Ctrl-C reaches pytest first; yet it ends with pytest, however that ends.
                start_new_session=True,
                preexec_fn=functools.partial(end_with_parent, signal.SIGKILL),
            )
        deadline = time.monotonic() + START_S
        while not self.ready_file.exists():
            assert self._process.poll() is None, f"ended with {self._process.returncode}:\n{self.stderr()}"
            assert time.monotonic() < deadline, f"not ready after {START_S} s:\n{self.stderr()}"
            time.sleep(0.02)
        self.ready = json.loads(self.ready_file.read_text())
        self._family = self._find_family()
        return self.ready

    def _find_family(self) -> list[psutil.Process]:
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it as a user does; it must go quietly, with exit code 0, and take everything with it."""
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.poll() is None, f"ended by itself with {process.returncode}:\n{self.stderr()}"
        process.send_signal(number)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            _, alive = psutil.wait_procs(self._family, timeout=STOP_S)
        assert code == 0, f"exit code {code}:\n{self.stderr()}"
        assert "Traceback" not in self.stderr(), self.stderr()
        assert alive == [], "processes are left"

    def kill(self) -> None:
        """SIGKILL, without any chance to tidy up; the lab is gone too when this returns."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(self._family, timeout=STOP_S)
        assert alive == [], "processes have outlived their parent"

    def operator(self, verb: str, organization: str | None = None, **body: Any) -> Json:
        """A set-up verb through the operator's socket: all rights, any organization."""
        return asyncio.run(ask_operator(self.data_dir, verb, organization, body))


class Demo(Server):
    """The demo fleet with its lab."""

    def __init__(self, folder: Path, *, database: str | None = None, env: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, "--demo", database=database, env=env)
        self.store = "sqlite" if database is None else "postgres"
        self.document: Json = {}
        self.devices: dict[str, Device] = {}
        self._clients: list[httpx2.Client] = []

    def start(self) -> Json:
        """Start it, and make the clients anew."""
        ready = super().start()
        self.devices = {found["name"]: _device(found) for found in ready["devices"]}
        self.bare = http(ready["baseUrl"])
        self.document = self.bare.get("/openapi.json").json()
        self.client = http(ready["baseUrl"], contract.Witness(self.document))
        self.lab = Lab(http(ready["lab"]["controlUrl"]))
        self._clients = [self.bare, self.client, self.lab.client]
        self.api = self._api(ready["organization"], ready["apiKey"])
        self.other = self._api(ready["otherOrganization"], ready["otherOrganization"]["apiKey"])
        return ready

    def _api(self, organization: Json, key: str) -> Api:
        return Api(self.client, organization["id"], key, organization["slug"])

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Close the clients, then see Server.end."""
        self._close()
        super().end(number)

    def kill(self) -> None:
        """Close the clients, then see Server.kill."""
        self._close()
        super().kill()

    def _close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients = []

    def __getitem__(self, name: str) -> Device:
        """A device by its name."""
        return self.devices[name]

    # ------------------------------------------------------------ set-up

    def key(self, *permissions: str, organization: Api | None = None, expires: float | None = None) -> Api:
        """A new key of an organization (default: the demo's)."""
        where = organization or self.api
        more = {} if expires is None else {"expiresInSeconds": expires}
        made = self.operator("key.create", where.organization, permissions=list(permissions), **more)
        return Api(self.client, where.organization, made["secret"], where.slug, made["id"])

    def new_organization(self, **features: bool) -> Api:
        """An organization of its own, with the features that were named switched on or off, and a key for all."""
        slug = f"test-{secrets.token_hex(4)}"
        made = self.operator("organization.create", slug=slug)
        for feature, on in features.items():
            self.operator("organization.feature", made["id"], feature=feature, on=on)
        return self.key("*", organization=Api(self.client, made["id"], None, slug))


def _device(found: Json) -> Device:
    return Device(
        name=found["name"],
        platform=found["platform"],
        id=found["deviceId"],
        all_platform_id=found["allPlatformId"],
        serial_number=found["serialNumber"],
        provider=found["provider"],
        online=found["online"],
        apps=tuple(found["apps"]),
    )


@contextlib.contextmanager
def running_demo(folder: Path, database: str | None = None, env: Mapping[str, str] | None = None) -> Iterator[Demo]:
    """A demo for a block. It must end well; after a failure inside the block it is killed instead."""
    demo = Demo(folder, database=database, env=env)
    try:
        demo.start()
        yield demo
    except BaseException:
        demo.kill()
        raise
    demo.end()


@contextlib.contextmanager
def new_database(store: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """An empty database of the store; None for SQLite, which lies in the data directory."""
    if store == "sqlite":
        yield None
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = f"demo_{secrets.token_hex(4)}"
    asyncio.run(server.execute(f'CREATE DATABASE "{name}"'))
    try:
        yield server.dsn(name)
    finally:
        asyncio.run(server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sqlite_only: not repeated on PostgreSQL, which could not make a difference")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores = STORES[:1] if metafunc.definition.get_closest_marker("sqlite_only") else STORES
    for name, scope in (("demo", "session"), ("fresh_demo", "function")):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, stores, indirect=True, scope=scope)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def demo_on(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,  # asked for here, so that it ends after the demo on it
) -> Iterator[Callable[[str], Demo]]:
    """The demo on a store, started when first asked for.

    Both stay up to the end: pytest keeps one parameter of a fixture at a time, and a worker that goes from file to file
    would start a demo for each store of each.
    """
    with contextlib.ExitStack() as stack:
        running: dict[str, Demo] = {}

        def on(store: str) -> Demo:
            if store not in running:
                database = stack.enter_context(new_database(store, request))
                folder = tmp_path_factory.mktemp(f"demo-{store}")
                running[store] = stack.enter_context(running_demo(folder, database))
            return running[store]

        yield on


@pytest.fixture(scope="session")
def demo(request: pytest.FixtureRequest, demo_on: Callable[[str], Demo]) -> Demo:
    """The demo that all tests on this store share. What they change about the lab they must put back."""
    found = demo_on(request.param)
    found.lab.restore()
    return found


@pytest.fixture
def fresh_demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    """A demo for one test alone, which may stop, kill and restart it."""
    with new_database(request.param, request) as database, running_demo(tmp_path, database) as running:
        yield running


@pytest.fixture
def lab(demo: Demo) -> Iterator[Lab]:
    """The lab of the shared demo; devices and faults are put back afterwards."""
    yield demo.lab
    demo.lab.restore()
