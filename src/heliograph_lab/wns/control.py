"""The control API's part for WNS: apps, channels and their scripts, and what was counted."""

import secrets
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from heliograph_lab.web import Reply, Request, Router
from heliograph_lab.wns.emulator import WnsEmulator
from heliograph_lab.wns.model import Channel, Step

_Text = Annotated[str, Meta(min_length=1, max_length=512)]


class _App(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    client_id: _Text
    client_secret: _Text


class _Opened(msgspec.Struct, forbid_unknown_fields=True):
    app: _Text


class _Patch(msgspec.Struct, forbid_unknown_fields=True):
    state: Literal["expired"] | None = None
    script: list[Step] | None = None


class WnsControl:
    """Routes under `/wns`."""

    def __init__(self, wns: WnsEmulator) -> None:
        self._wns = wns

    def add_to(self, control: Router) -> None:
        """Add the routes to the control API."""
        control.add("GET", "/wns", self._show)
        control.add("PUT", "/wns/apps", self._put_apps)
        control.add("GET", "/wns/channels", self._channels)
        control.add("POST", "/wns/channels", self._open)
        control.add("PUT", "/wns/channels/{id}", self._put)

    async def _show(self, _request: Request) -> Reply:
        return Reply(self._wns.sent)

    async def _put_apps(self, request: Request) -> Reply:
        apps = _read(request, list[_App])
        await self._wns.store.put_apps({app.client_id: app.client_secret for app in apps})
        return Reply(apps)

    async def _channels(self, _request: Request) -> Reply:
        return Reply({"items": [self._shown(channel) for channel in self._wns.store.channels()]})

    async def _open(self, request: Request) -> Reply:
        wanted = _read(request, _Opened)
        channel = await self._wns.store.open(wanted.app, f"control/{secrets.token_hex(8)}")
        return Reply(self._shown(channel))

    async def _put(self, request: Request) -> Reply:
        patch = _read(request, _Patch)
        channel = self._wns.store.channel(request.params["id"])
        if channel is None:
            raise ValueError("no such channel: GET /wns/channels")
        if patch.script is not None:
            self._wns.script(channel, patch.script)
        if patch.state == "expired":
            await self._wns.expire(channel)
        return Reply(self._shown(channel))

    def _shown(self, channel: Channel) -> dict[str, Any]:
        return {
            "id": channel.id,
            "uri": self._wns.uri(channel),
            "app": channel.app,
            "owner": channel.owner,
            "state": "active" if channel.expires > self._wns.store.now() else "expired",
            "online": self._wns.is_online(channel),
            "waiting": [notification.kind for notification in self._wns.store.waiting(channel.id)],
            "script": self._wns.scripted(channel),
        }


def _read(request: Request, kind: Any) -> Any:
    try:
        return msgspec.convert(request.json(), kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
