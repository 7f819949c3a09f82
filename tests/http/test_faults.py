"""When we are at fault, or asked too often (DECISIONS 9): the app in this process, with a store that does as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import httpx2
import pytest
import structlog

from heliograph.app.access import Access, hash_secret
from heliograph.app.services import SECOND, Services
from heliograph.domain.deliveries import Push, PushRung
from heliograph.domain.devices import ApiKey, Organization, Principal
from heliograph.domain.errors import Conflict, StoreUnavailable, Unauthenticated
from heliograph.http.app import Rates, build_app
from heliograph.http.health import Health

KEY, OTHER = "hlg_one", "hlg_two"
ORGANIZATION = Organization("0" * 24, "here", "Here", {}, 0, 0)
INSIDE = "the-inside"


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> int:
        return int(self.seconds * SECOND)


class Store:
    """Knows two keys; everything else is what `fail` raises."""

    def __init__(self) -> None:
        self.fail: Callable[[], BaseException] = lambda: RuntimeError(INSIDE)
        self.directory = self
        self.system = self
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.revoked_at: int | None = None
        self.expires_at: int | None = None
        self.down = False
        self.pings = 0
        self.while_pinged: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def principal(self, key_hash: bytes) -> tuple[Principal, ApiKey] | None:
        if self.down:
            raise StoreUnavailable
        for name, secret in (("1", KEY), ("2", OTHER)):
            if hash_secret(secret) == key_hash:
                key = ApiKey(name * 24, ORGANIZATION.id, name, secret, ("*",), 0, self.expires_at, self.revoked_at)
                self.reading.set()
                await self.go_on.wait()
                return Principal(key.id, ORGANIZATION, frozenset(key.permissions)), key
        return None

    async def device_by_secret(self, _: bytes) -> None:
        if self.down:
            raise StoreUnavailable

    def unit_of_work(self, _: str) -> Any:
        return Failing(self)

    async def ping(self) -> None:
        self.pings += 1
        await self.while_pinged()
        if self.down:
            raise StoreUnavailable


class Failing:
    """A unit of work in which everything fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, _: str) -> Any:
        raise self._store.fail()


class World:
    """The app and a client of it."""

    def __init__(self, requests_per_minute: int = 0, of_organization: int = 0) -> None:
        self.clock, self.store = Clock(), Store()
        ports: dict[str, Any] = dict.fromkeys(("new_id", "wakeups", "secrets", "providers", "channels"))
        self.services = Services(cast(Any, self.store), cast(Any, self.clock), **ports)
        self.access = Access(self.services)
        self.round_at = self.clock.now()
        self.health = Health(self.services, lambda: self.round_at)
        app = build_app(self.services, self.access, self.health, Rates(requests_per_minute, of_organization))
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(cast(Any, app)), base_url="http://app.test")

    async def get(self, path: str, key: str = KEY, **headers: str) -> httpx2.Response:
        return await self.client.get(path, headers={"Authorization": f"Bearer {key}", **headers})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Without a limit."""
    made = World()
    yield made
    await made.client.aclose()


@pytest.fixture
async def limited() -> AsyncIterator[World]:
    """Six requests a minute, one at once."""
    made = World(requests_per_minute=6)
    yield made
    await made.client.aclose()


HERE = "/v1/organizations/here"
DEVICE = f"{HERE}/mdm/devices/{'1' * 24}"


async def test_an_unexpected_fault_tells_the_request_id_and_nothing_of_the_inside(world: World) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await world.get(DEVICE, **{"X-Request-Id": "my-request"})
    assert answer.status_code == 500
    assert answer.json() == {
        "status": False,
        "error": {
            "code": 1000,
            "message": "Internal error; request id my-request",
            "data": {"requestId": "my-request"},
        },
    }
    assert answer.headers["x-request-id"] == "my-request"
    assert INSIDE not in answer.text
    assert [(entry["event"], entry["request_id"]) for entry in logs] == [("http.fault", "my-request")]


@pytest.mark.parametrize("error", [StoreUnavailable, Conflict])
async def test_a_store_that_cannot_is_503_with_retry_after(error: type[Exception], world: World) -> None:
    world.store.fail = error
    answer = await world.get(DEVICE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, 1003)
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_store_that_is_away_is_503_before_anything_is_known(world: World) -> None:
    world.store.down = True
    answer = await world.get(HERE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, 1003)
    assert "retry-after" in answer.headers
    answer = await world.client.post("/agent/v1/register", json={}, headers={"Authorization": "Bearer x"})
    assert answer.status_code == 503


async def test_too_many_requests(limited: World) -> None:
    assert (await limited.get(HERE)).status_code == 200
    answer = await limited.get(HERE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, 4029)
    wait = int(answer.headers["retry-after"])
    assert 1 <= wait <= 11
    limited.clock.seconds += wait
    assert (await limited.get(HERE)).status_code == 200


async def test_the_limit_is_one_of_each_key(limited: World) -> None:
    for _ in range(3):
        await limited.get(HERE)
    assert (await limited.get(HERE, OTHER)).status_code == 200


async def test_the_keys_of_an_organization_have_a_limit_together() -> None:
    world = World(of_organization=6)
    assert (await world.get(HERE)).status_code == 200
    assert (await world.get(HERE, OTHER)).status_code == 429
    await world.client.aclose()


async def test_the_limit_is_no_oracle_and_health_has_none(limited: World) -> None:
    for _ in range(5):
        assert (await limited.get(HERE, "hlg_unknown")).status_code == 401
        assert (await limited.get("/healthz")).status_code == 200
        assert (await limited.get("/nothing")).status_code == 404
    assert (await limited.get(HERE)).status_code == 200


async def test_ready_says_what_is_missing(world: World) -> None:
    assert (await world.get("/readyz")).json() == {"status": True, "faults": {}}
    world.store.down = True
    world.clock.seconds += 3600
    answer = await world.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] is False
    assert set(answer.json()["faults"]) == {"store", "dispatcher"}
    assert (await world.get("/healthz")).status_code == 200


async def test_however_many_ask_whether_it_is_ready_the_store_is_asked_once_a_second(world: World) -> None:
    await asyncio.gather(*(world.get("/readyz") for _ in range(5)))
    world.clock.seconds += 0.9
    await world.get("/readyz")
    assert world.store.pings == 1
    world.clock.seconds += 0.1
    await world.get("/readyz")
    assert world.store.pings == 2


async def test_who_waits_for_a_look_that_takes_long_is_told_what_it_found(world: World) -> None:
    """Else each would wait for a time-out of its own, one after the other."""

    async def in_vain() -> None:
        await asyncio.sleep(0.01)  # the others ask meanwhile
        world.clock.seconds += 10
        raise StoreUnavailable

    world.store.while_pinged = in_vain
    answers = await asyncio.gather(*(world.get("/readyz") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [503] * 5
    assert world.store.pings == 1


async def test_a_store_that_hangs_is_not_ready_after_a_few_seconds(world: World) -> None:
    world.store.while_pinged = asyncio.Event().wait
    world.health.patience_s = 0.05
    answer = await world.get("/readyz")
    assert (answer.status_code, set(answer.json()["faults"])) == (503, {"store"})


async def test_a_key_that_is_revoked_while_it_is_looked_up_is_not_remembered(world: World) -> None:
    """The read began before the revocation and ends after it: what it found is out of date."""
    world.store.go_on.clear()
    early = asyncio.create_task(world.access.principal(KEY))
    await world.store.reading.wait()
    world.store.revoked_at = world.clock.now()
    world.access.forget()
    world.store.go_on.set()
    await early
    with pytest.raises(Unauthenticated):
        await world.access.principal(KEY)


class Waiting:
    """A push that is over, once its reader may go on."""

    def __init__(self, world: World) -> None:
        self.world, self.pushes, self.history = world, self, self
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def find(self, push_id: str) -> Push:
        self.asked.set()
        await self.go_on.wait()
        return Push(push_id, ORGANIZATION.id, "2" * 24, "mdmAgent", "silent", "x", None, {}, 0, 0, 0, PushRung.EXPIRED)

    async def of(self, _: object) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("end", "status"), [("revoked", 401), ("expired", 401), (None, 200)])
async def test_a_key_that_ends_during_a_wait_learns_nothing_any_more(
    end: str | None, status: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Waiting(world)
    monkeypatch.setattr(world.store, "unit_of_work", lambda _: work)
    asked = asyncio.create_task(world.get(f"{HERE}/mdm/push-notifications/{'1' * 24}?wait=30"))
    await work.asked.wait()
    if end == "revoked":
        world.store.revoked_at = world.clock.now()
        world.access.forget()
    elif end == "expired":
        world.store.expires_at = world.clock.now()
        world.access.forget()
    work.go_on.set()
    answer = await asked
    assert answer.status_code == status
    assert end is None or answer.json()["error"]["code"] == 4004
