"""A Google made for tests: a token endpoint and an API on one wire, and credentials that lead there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from heliograph.domain.catalog import TYPES
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command
from tests.support.wire import Action, Answer, Seen, Wire, json_answer

DEVICE_NAME = "enterprises/LC1/devices/d1"
OPERATION_NAME = f"{DEVICE_NAME}/operations/1786048723669"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def pem() -> str:
    return (
        rsa_key()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def account(token_uri: str, /, **changes: Any) -> dict[str, Any]:
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "kid1",
        "private_key": pem(),
        "client_email": "helio@p.iam.gserviceaccount.com",
        "token_uri": token_uri,
    } | changes


def account_file(token_uri: str, /, **changes: Any) -> bytes:
    return json.dumps(account(token_uri, **changes)).encode()


def claims_of(assertion: str) -> dict[str, Any]:
    """The claims of a JWT, once its signature has been checked."""
    head, body, signature = assertion.split(".")
    rsa_key().public_key().verify(_decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    claims: dict[str, Any] = json.loads(_decoded(body))
    return claims


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@dataclass
class Google:
    """Tokens are `token-1`, `token-2`, … unless `token_answers` says otherwise; `api` answers the rest."""

    wire: Wire
    api: Callable[[Seen], Action] = field(default=lambda _: Answer())
    token_answers: list[Action] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.wire.handler = self._answer

    @property
    def token_uri(self) -> str:
        return f"{self.wire.url}/token"

    @property
    def asked(self) -> list[Seen]:
        """What came to the API, tokens apart."""
        return [seen for seen in self.wire.seen if seen.path != "/token"]

    def answers(self, *actions: Action) -> None:
        waiting = list(actions)
        self.api = lambda _: waiting.pop(0)

    def _answer(self, seen: Seen) -> Action:
        if seen.path != "/token":
            return self.api(seen)
        if self.token_answers:
            return self.token_answers.pop(0)
        self.tokens += 1
        return json_answer({"access_token": f"token-{self.tokens}", "expires_in": 3599, "token_type": "Bearer"})


def device(name: str | None = DEVICE_NAME) -> Device:
    return Device(
        id="0" * 24,
        organization_id="1" * 24,
        all_platform_id="2" * 24,
        platform="android",
        enterprise_id="3" * 24,
        name="phone",
        state="ACTIVE",
        created_at=0,
        updated_at=0,
        external_name=name,
    )


def command(kind: str = "LOCK") -> Command:
    assert kind in TYPES or kind == "NOPE"
    return Command(
        id="4" * 24,
        organization_id="1" * 24,
        device_id="0" * 24,
        enterprise_id="3" * 24,
        platform="android",
        type=kind,
        params={},
        duration_us=3_600_000_000,
        created_at=0,
        updated_at=0,
        expires_at=3_600_000_000,
    )


def operation(name: str = OPERATION_NAME, **members: Any) -> dict[str, Any]:
    metadata = {"@type": "type.googleapis.com/google.android.devicemanagement.v1.Command", "type": "LOCK"}
    return {"name": name, "metadata": metadata, "done": False} | members


def error(status: int, message: str, rpc: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    body = {"error": {"code": status, "message": message, **({"status": rpc} if rpc else {})}}
    return Answer(status, json.dumps(body).encode(), headers or {})
