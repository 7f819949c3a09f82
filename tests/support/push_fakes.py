"""The lab's push services in this process, with devices that are always online and count what reaches them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from heliograph_lab.fleet import ApnsSpec, DeviceSpec, FcmSpec, PushySpec, WebPushSpec, WnsSpec
from heliograph_lab.push_lines import push_lines
from heliograph_lab.serve import Lab, LabOptions
from heliograph_protocol.messages import PushOffer
from tests.providers.credentials import p8, service_account
from tests.support.crash import Client, Json, Rig, Unit, fault

TOPIC, PROJECT, SID = "com.example.agent", "my-project", "ms-app://s-1-15-2-1-2-3-4-5-6-7"
PLATFORM = {"apns": "ios", "fcm": "aosp", "wns": "windows", "pushy": "aosp", "webpush": "package"}
SENDING = {"apns": "^/3/device/", "fcm": "messages:send$", "wns": "^/$", "pushy": "^/push$", "webpush": "^/push/"}
"""Paths at which each service takes pushes, as patterns."""


@dataclass
class Fakes:
    """`received`: how often each push id has reached its device; `order`: the ids as they came."""

    folder: Path
    received: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lab = lab = Lab(LabOptions(state_dir=self.folder))
        self._lines = push_lines(
            lab.kernel.clock, pushy=lab.pushy, apns=lab.apns, fcm=lab.fcm, wns=lab.wns, webpush=lab.webpush
        )

    def config(self, provider: str, name: str) -> Json:
        """Settings of an account that leads here; `name` makes it one of its own, where accounts are told apart."""
        urls = self.lab.urls
        ca = Path(urls["caPath"]).read_text()
        token_url = f"{urls['amapiUrl']}/token"
        configs: dict[str, Json] = {
            "apns": {"keyId": "ABC123DEFG", "teamId": "TEAM123456", "key": p8(), "topic": TOPIC}
            | {"baseUrl": urls["apnsUrl"], "ca": ca},
            "fcm": {"serviceAccount": service_account(token_uri=token_url), "tokenUrl": token_url}
            | {"baseUrl": urls["fcmUrl"], "ca": ca},
            "wns": {"packageSid": SID, "clientSecret": "any", "loginUrl": urls["wnsUrl"]}
            | {"channelHosts": httpx2.URL(urls["wnsUrl"]).netloc.decode()},
            "pushy": {"apiKey": name, "baseUrl": urls["pushyUrl"], "requestsPerMinute": 0},
            "webpush": {"vapidPrivateKey": p8(), "subject": "mailto:ops@example.com"}
            | {"allowedOrigins": [urls["webpushUrl"]]},
        }
        return configs[provider]

    async def address(self, unit: Unit, account: str) -> str:
        """The address of a device at its provider, where it is online from now on."""
        spec = DeviceSpec(
            device_id=unit.id,
            name=unit.name,
            platform=unit.platform,
            pushy=PushySpec(api_key=account),
            apns=ApnsSpec(topic=TOPIC),
            fcm=FcmSpec(project=PROJECT),
            webpush=WebPushSpec(),
            wns=WnsSpec(app=SID),
        )
        line = self._lines[unit.provider]
        target = await line.address(spec, "mdmAgent")
        assert target is not None
        await line.connect(target.token, self._take)
        return target.token

    async def _take(self, offer: PushOffer) -> None:
        self.received[offer.id] += 1
        self.order.append(offer.id)

    def faults(self, *rules: Json) -> None:
        """Rules in force from now on, in place of all others."""
        self.lab.kernel.faults.replace(list(rules))

    def cut_after_sending(self, times: int) -> None:
        """Each service takes so many pushes, and cuts the connection in place of an answer."""
        self.faults(*(fault(provider, path, times, cut="after") for provider, path in SENDING.items()))

    def sends(self, provider: str) -> int:
        """How many pushes have come to a service, as far as it remembers."""
        path = re.compile(SENDING[provider])
        return sum(path.search(request.path) is not None for request in self.lab.kernel.requests.items(provider))


@dataclass
class Tenant:
    """An organization with devices that push services reach, and the API with its key."""

    client: Client
    units: list[Unit]
    tokens: list[str]


@dataclass
class PushSite:
    """A server on the fakes. It may be killed, and they stay."""

    rig: Rig
    fakes: Fakes

    async def restart_server(self) -> None:
        """SIGKILL, and a new start. The fakes go on meanwhile."""
        self.rig.server.kill()
        self.rig.server.launch()
        await asyncio.to_thread(self.rig.server.await_ready)

    @contextlib.asynccontextmanager
    async def tenant(self, slug: str, providers: Sequence[str], each: int = 1) -> AsyncIterator[Tenant]:
        """A new organization with an account at each of these providers, and devices whose agents have registered."""
        operator = self.rig.operator
        organization = (await operator("organization.create", slug=slug))["id"]
        key = (await operator("key.create", organization, permissions=["*"]))["secret"]
        client = Client(self.rig.url, organization, key)
        async with client.http:
            tenant = Tenant(client, [], [])
            for provider in providers:
                config = self.fakes.config(provider, slug)
                await operator("provider.add", organization, provider=provider, name="", config=config, default=True)
                await self._add_devices(tenant, organization, provider, slug, each)
            yield tenant

    async def _add_devices(self, tenant: Tenant, organization: str, provider: str, slug: str, count: int) -> None:
        platform = PLATFORM[provider]
        wanted = [{"platform": platform, "name": f"{slug}-{provider}-{n}"} for n in range(count)]
        made = (await self.rig.operator("device.import", organization, devices=wanted))["items"]
        for m in made:
            unit = Unit(m["name"], platform, provider, m["id"], m["agentSecret"], None)
            token = await self.fakes.address(unit, slug)
            body = {"app": "mdmAgent", "agentVersion": "1", "targets": [{"provider": provider, "token": token}]}
            headers = {"Authorization": f"Bearer {unit.secret}"}
            answer = await tenant.client.http.post("/agent/v1/register", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            tenant.units.append(unit)
            tenant.tokens.append(token)


@contextlib.asynccontextmanager
async def running_site(folder: Path, database: str | None) -> AsyncIterator[PushSite]:
    """A server and the fakes for a block."""
    rig = Rig(folder, database)
    fakes = Fakes(folder / "fakes")
    await fakes.lab.start()
    try:
        rig.server.start()
        yield PushSite(rig, fakes)
    finally:
        rig.stop()
        await fakes.lab.stop()
