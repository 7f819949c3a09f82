"""An APNs, a sender's key, and a client library that speaks HTTP/2."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from heliograph_lab.apns import ApnsEmulator, Key, Notification
from heliograph_lab.http2 import Authority
from heliograph_lab.kernel import Kernel

TOPIC = "com.example.agent"


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


class Sender:
    """A provider with a key; `push` is a request as it should be, except for what is given."""

    def __init__(self, apns: ApnsEmulator, authority: Authority) -> None:
        self.apns = apns
        self.authority = authority
        self.private_key = pem(ec.generate_private_key(ec.SECP256R1()))
        self.key = Key(key_id="ABC123DEFG", team_id="TEAM123456", public_key=self.private_key)
        self.token = self.provider_token()
        self.client = self.new_client()

    def new_client(self, certificate: str | None = None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=self.authority.ca_path)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return httpx.AsyncClient(base_url=self.apns.server.url, verify=context, http2=True, trust_env=False, timeout=30)

    def provider_token(self, *, age: int = 0, key: str | None = None, kid: str | None = None, **claims: Any) -> str:
        payload = {"iss": self.key.team_id, "iat": int(time.time()) - age, **claims}
        return jwt.encode(payload, key or self.private_key, "ES256", headers={"kid": kid or self.key.key_id})

    async def push(
        self,
        token: str,
        payload: Any = None,
        *,
        client: httpx.AsyncClient | None = None,
        without: tuple[str, ...] = (),
        **headers: str,
    ) -> httpx.Response:
        given = {
            "authorization": f"bearer {self.token}",
            "apns-topic": TOPIC,
            "apns-push-type": "alert",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        for name in without:
            del given[name]
        body = payload if isinstance(payload, bytes) else json.dumps(payload or {"aps": {"alert": "hi"}}).encode()
        return await (client or self.client).post(f"/3/device/{token}", content=body, headers=given)


class Phone:
    """The device's end: what it has got."""

    def __init__(self, apns: ApnsEmulator, token: str) -> None:
        self.apns = apns
        self.token = token
        self.got: asyncio.Queue[Notification] = asyncio.Queue()

    async def online(self) -> None:
        await self.apns.connect(self.token, self.got.put)

    async def offline(self) -> None:
        await self.apns.disconnect(self.token)

    async def next(self) -> Notification:
        async with asyncio.timeout(30):
            return await self.got.get()


@pytest.fixture
def authority(kernel: Kernel) -> Authority:
    return Authority(kernel.state_dir)


@pytest.fixture
async def apns(kernel: Kernel, authority: Authority) -> AsyncIterator[ApnsEmulator]:
    emulator = ApnsEmulator(kernel, authority)
    await emulator.server.start()
    yield emulator
    await emulator.stop()


@pytest.fixture
async def sender(apns: ApnsEmulator, authority: Authority) -> AsyncIterator[Sender]:
    sender = Sender(apns, authority)
    await apns.tokens.put_keys([sender.key])
    yield sender
    await sender.client.aclose()


@pytest.fixture
async def phone(apns: ApnsEmulator) -> Phone:
    return Phone(apns, await apns.register(TOPIC, "d1/agent"))
