"""A server of the lab's that misbehaves as told, and our client to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from heliograph.ports.transport import Answered, Endpoint, NotProcessed, Outcome
from heliograph.providers.transport import Connections, Timing
from heliograph.providers.transport.connections import Connection
from heliograph.system import SystemClock
from heliograph_lab.http2 import Answer, Authority, Request, Server

PATIENT_S = 60.0
BODY = b'{"aps":{"content-available":1}}'


def seen(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How often each status (of a whole answer) or cause came."""
    return Counter(_name(outcome) for outcome in outcomes)


def _name(outcome: Outcome) -> str:
    if isinstance(outcome, Answered):
        return f"{outcome.status}" if outcome.whole else f"{outcome.status} in part"
    return f"{type(outcome).__name__}: {outcome.cause}"


async def until(true: Callable[[], bool]) -> None:
    """Wait for what must come."""
    async with asyncio.timeout(PATIENT_S):
        while not true():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


@dataclass
class Site:
    """A server and our transport to it."""

    server: Server
    ca_pem: bytes
    connections: Connections
    endpoint: Endpoint

    @property
    def transport(self) -> Connection:
        return self.connections.at(self.endpoint)

    async def post(self, name: str = "x", body: bytes = BODY, timeout_s: float = PATIENT_S) -> Outcome:
        return await self.transport.post(f"/3/device/{name}", {"apns-id": name}, body, timeout_s)

    async def burst(self, count: int, body: bytes = BODY, timeout_s: float = PATIENT_S) -> dict[str, Outcome]:
        """So many at once, by id; what each outcome says is compared with what the server did."""
        names = [f"{number}" for number in range(count)]
        outcomes = await asyncio.gather(*(self.post(name, body, timeout_s) for name in names))
        by_id = dict(zip(names, outcomes, strict=True))
        self.compare(by_id)
        return by_id

    def compare(self, outcomes: dict[str, Outcome]) -> None:
        """Nothing ran twice, and no outcome is a lie."""
        processed = self.server.counts.processed_by_id
        assert self.server.counts.duplicates() == {}
        for name, outcome in outcomes.items():
            if isinstance(outcome, NotProcessed):
                assert name not in processed, outcome
            if isinstance(outcome, Answered) and outcome.status == 200:
                assert processed[name] == 1

    async def working(self) -> None:
        """One request that goes well: the connection stands and is proved."""
        assert seen([await self.post("first")]) == {"200": 1}


MakeSite = Callable[..., Any]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, bytes]:
    """What signs the server's certificates, and its own certificate."""
    folder = tmp_path_factory.mktemp("authority")
    return Authority(folder), (folder / "ca.pem").read_bytes()


@pytest.fixture
async def make_site(authority: tuple[Authority, bytes]) -> AsyncIterator[MakeSite]:
    """Starts servers; each answers 200 `{}` unless told otherwise. `pings` in seconds: (every, answer)."""
    sites: list[Site] = []

    async def make(
        handler: Any = lambda _: Answer(200, (), b"{}"),
        *,
        pings: tuple[float, float] = (20, 10),
        streams: int = 100,
        certificate: bytes | None = None,
        **options: Any,
    ) -> Site:
        server = Server(handler, authority[0].server_context(), identify=_id_of, **options)
        await server.start()
        connections = Connections(SystemClock(), timing=Timing(5, *pings))
        endpoint = Endpoint(server.url, authority[1], certificate, streams=streams)
        sites.append(Site(server, authority[1], connections, endpoint))
        return sites[-1]

    yield make
    for site in sites:
        await site.connections.close()
        await site.server.stop()


def _id_of(request: Request) -> str | None:
    return request.headers.get("apns-id")
