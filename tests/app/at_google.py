"""Services of the application over the whole lab in this process: what is set up there is set up at Google."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from heliograph.app.callers import Caller
from heliograph.app.quota import Quota
from heliograph.app.services import Services
from heliograph.app.setup import create_organization
from heliograph.app.verbs import VERBS, call_verb
from heliograph.channels import AmapiChannels, AmapiSettings
from heliograph.domain.devices import Organization
from heliograph.domain.ids import IdMinter
from heliograph.ports.push import Tools
from heliograph.providers import ProviderRegistry, accounts_in, discover
from heliograph.providers.transport import Connections
from heliograph.store import Hub, SqliteStore, migrate
from heliograph.system import AesGcmBox
from heliograph_lab.serve import Lab, LabOptions
from tests.app.conftest import Clock
from tests.channels.google import account_file
from tests.support.direct import direct

Json = dict[str, Any]


@dataclass
class Office:
    """An operator's desk: an organization, the lab, and the verbs."""

    services: Services
    clock: Clock
    lab: Lab
    organization: Organization
    http: httpx2.AsyncClient

    def key_file(self, project: str = "p", **changes: Any) -> str:
        """A service account's key file of a project."""
        email = f"helio@{project}.iam.gserviceaccount.com"
        members = {"project_id": project, "client_email": email} | changes
        return account_file(f"{self.lab.urls['amapiUrl']}/token", **members).decode()

    async def verb(self, verb: str, /, **body: Any) -> Json:
        return await call_verb(self.services, VERBS[verb], Caller(self.organization), body)

    async def connect(self, project: str = "p", **body: Any) -> Json:
        return await self.verb("enterprise.connect", credentials=self.key_file(project), **body)

    async def connected(self, project: str = "p", **body: Any) -> Json:
        """An enterprise that was signed up, all the way."""
        begun = await self.connect(project, **body)
        answer = await self.connect(project, enterpriseToken=await self.signed_up(begun["signUpUrl"]), **body)
        assert answer["connected"], answer["steps"]
        return answer

    async def signed_up(self, url: str) -> str:
        """What the sign-up page ends with, once a person has completed it."""
        page = (await self.http.get(url)).text
        return page.partition("token is ")[2].partition(".")[0]

    def faults(self, *rules: Json) -> None:
        self.lab.kernel.faults.replace(list(rules))

    async def amapi(self, method: str, path: str, body: Any = None, **query: str) -> Json:
        """Somebody else's request to Google."""
        return await self._ask("amapiUrl", method, path, body, query)

    async def pubsub(self, method: str, path: str, body: Any = None) -> Json:
        return await self._ask("pubsubUrl", method, path, body, {})

    async def _ask(self, where: str, method: str, path: str, body: Any, query: dict[str, str]) -> Json:
        url = f"{self.lab.urls[where]}/v1/{path}"
        answer = await self.http.request(
            method, url, params=query, json=body, headers={"Authorization": "Bearer somebody"}
        )
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


def states(answer: Json) -> dict[str, str]:
    """Each step and what it came to."""
    return {step["step"]: step["state"] for step in answer["steps"]}


def last(answer: Json) -> tuple[str, str, str]:
    """The step that it ended with, its state, and what is said about it."""
    step = answer["steps"][-1]
    return step["step"], step["state"], f"{step['detail']} | {step['advice']}"


@asynccontextmanager
async def open_office(folder: Path, per_minute: int = 600) -> AsyncIterator[Office]:
    lab = Lab(LabOptions(state_dir=folder / "lab"))
    await lab.start()
    hub = Hub()
    store = await SqliteStore.open(folder / "data", hub)
    await migrate(store)
    clock, box = Clock(), AesGcmBox(os.urandom(32))
    settings = AmapiSettings(lab.urls["amapiUrl"], lab.urls["pubsubUrl"])
    channels = AmapiChannels(lambda org, id_: store.unit_of_work(org).setup.enterprise(id_), box, settings)
    providers = ProviderRegistry(discover([]), accounts_in(store), box, Tools(clock, Connections(clock)))
    services = Services(
        store=store,
        clock=clock,
        new_id=IdMinter(lambda: clock.now() / 1e6, os.urandom),
        wakeups=hub,
        secrets=box,
        providers=providers,
        channels=channels,
        quota=Quota(store.system, clock, per_minute),
    )
    organization = await create_organization(services, "acme")
    async with direct() as http:
        yield Office(services, clock, lab, organization, http)
    await channels.close()
    await providers.close()
    await store.close()
    await lab.stop()
