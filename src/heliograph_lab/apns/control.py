"""The control API's part for APNs: keys, certificates, device tokens, and what was counted."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from heliograph_lab.apns.emulator import ApnsEmulator
from heliograph_lab.apns.model import Device, Key
from heliograph_lab.http2 import Authority
from heliograph_lab.web import Reply, Request, Router

_Text = Annotated[str, Meta(min_length=1, max_length=255)]


class _NewCertificate(msgspec.Struct, forbid_unknown_fields=True):
    topic: _Text


class _TrustedCertificate(msgspec.Struct, forbid_unknown_fields=True):
    pem: str


class _Token(msgspec.Struct, forbid_unknown_fields=True):
    topic: _Text
    state: Literal["active", "unregistered", "expired"] = "active"


class ApnsControl:
    """Routes under `/apns`."""

    def __init__(self, apns: ApnsEmulator, authority: Authority) -> None:
        self._apns = apns
        self._authority = authority

    def add_to(self, control: Router) -> None:
        """Add the routes to the control API."""
        control.add("GET", "/apns", self._show)
        control.add("GET", "/apns/keys", self._keys)
        control.add("PUT", "/apns/keys", self._put_keys)
        control.add("POST", "/apns/certificates", self._certificate)
        control.add("PUT", "/apns/certificates", self._trust)
        control.add("GET", "/apns/tokens", self._tokens)
        control.add("PUT", "/apns/tokens/{token}", self._put_token)

    async def _show(self, _request: Request) -> Reply:
        return Reply({**self._apns.sent, "providerTokens": self._apns.tokens.seen})

    async def _keys(self, _request: Request) -> Reply:
        return Reply({"items": self._apns.tokens.keys})

    async def _put_keys(self, request: Request) -> Reply:
        await self._apns.tokens.put_keys(_converted(request, list[Key]))
        return await self._keys(request)

    async def _certificate(self, request: Request) -> Reply:
        wanted = _converted(request, _NewCertificate)
        return Reply({"pem": self._authority.client_certificate(uid=wanted.topic).decode()})

    async def _trust(self, request: Request) -> Reply:
        await self._apns.trust(_converted(request, _TrustedCertificate).pem)
        return Reply({})

    async def _tokens(self, _request: Request) -> Reply:
        return Reply({"items": [self._shown(device) for device in self._apns.store.devices()]})

    async def _put_token(self, request: Request) -> Reply:
        wanted, token = _converted(request, _Token), request.params["token"]
        if not checks_token(token):
            raise ValueError("token: must be 64 to 200 hexadecimal digits, in lower case")
        known = self._apns.store.device(token)
        if known is None or known.topic != wanted.topic or wanted.state == "active":
            owner = known.owner if known is not None else f"control/{token}"
            await self._apns.store.put(Device(token=token, topic=wanted.topic, owner=owner))
        if wanted.state == "unregistered":
            await self._apns.end(token)
        elif wanted.state == "expired":
            await self._apns.end(token, "ExpiredToken")
        device = self._apns.store.device(token)
        return Reply(self._shown(device) if device is not None else {})

    def _shown(self, device: Device) -> dict[str, Any]:
        ended = {"Unregistered": "unregistered", "ExpiredToken": "expired"}[device.reason]
        stored = self._apns.store.stored(device.token)
        return {
            "token": device.token,
            "topic": device.topic,
            "state": "active" if device.ended_at is None else ended,
            "online": self._apns.is_online(device.token),
            "stored": stored.id if stored is not None else None,
        }


def checks_token(token: str) -> bool:
    """Whether this could be a device token as it is kept here."""
    return 64 <= len(token) <= 200 and len(token) % 2 == 0 and set(token) <= set("0123456789abcdef")


def _converted(request: Request, kind: Any) -> Any:
    try:
        return msgspec.convert(request.json(), kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
