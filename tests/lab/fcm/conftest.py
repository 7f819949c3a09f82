"""An FCM, a bearer token of the token endpoint, and a client library that speaks HTTP/2."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from heliograph_lab.amapi.oauth import exchange
from heliograph_lab.fcm import FcmEmulator, Message
from heliograph_lab.http2 import Authority
from heliograph_lab.kernel import Kernel

PROJECT = "my-project"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
TOKEN_URL = "https://oauth2.googleapis.com/token"


@pytest.fixture(scope="session")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def assertion(private_key: str, project: str = PROJECT) -> bytes:
    now = int(time.time())
    claims = {"iss": f"push@{project}.iam.gserviceaccount.com", "scope": SCOPE, "aud": TOKEN_URL}
    signed = jwt.encode({**claims, "iat": now, "exp": now + 3600}, private_key, "RS256")
    return urlencode({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": signed}).encode()


class Sender:
    """A server with an account; `send` is a message as it should be, except for what is given."""

    def __init__(self, fcm: FcmEmulator, authority: Authority, kernel: Kernel, private_key: str) -> None:
        self.fcm = fcm
        self._kernel = kernel
        self._key = private_key
        context = ssl.create_default_context(cafile=authority.ca_path)
        self.client = httpx.AsyncClient(
            base_url=fcm.server.url, verify=context, http2=True, trust_env=False, timeout=30
        )
        self.bearer = self.new_bearer()

    def new_bearer(self, project: str = PROJECT) -> str:
        now = self._kernel.clock.now().timestamp()
        status, answer = exchange(assertion(self._key, project), TOKEN_URL, now)
        assert status == 200, answer
        token: str = answer["access_token"]
        return token

    async def send(self, address: str, *, kind: str = "token", **message: Any) -> httpx.Response:
        return await self.post({"message": {kind: address, **message}})

    async def post(self, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.bearer}", "content-type": "application/json"}
        return await self.client.post(f"/v1/projects/{PROJECT}/messages:send", content=content, headers=headers)


class Phone:
    """The device's end: what it has got."""

    def __init__(self, fcm: FcmEmulator, address: str) -> None:
        self.fcm = fcm
        self.address = address
        self.got: asyncio.Queue[Message] = asyncio.Queue()

    async def online(self) -> None:
        await self.fcm.connect(self.address, self.got.put)

    async def offline(self) -> None:
        await self.fcm.disconnect(self.address)

    async def next(self) -> Message:
        async with asyncio.timeout(30):
            return await self.got.get()


@pytest.fixture
def authority(kernel: Kernel) -> Authority:
    return Authority(kernel.state_dir)


@pytest.fixture
async def fcm(kernel: Kernel, authority: Authority) -> AsyncIterator[FcmEmulator]:
    emulator = FcmEmulator(kernel, authority)
    await emulator.server.start()
    yield emulator
    await emulator.stop()


@pytest.fixture
async def sender(fcm: FcmEmulator, authority: Authority, kernel: Kernel, private_key: str) -> AsyncIterator[Sender]:
    sender = Sender(fcm, authority, kernel, private_key)
    yield sender
    await sender.client.aclose()


@pytest.fixture
async def phone(fcm: FcmEmulator) -> Phone:
    return Phone(fcm, await fcm.register(PROJECT, "d1/agent"))
