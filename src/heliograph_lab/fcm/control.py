"""The control API's part for FCM: registrations, and what was counted."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from heliograph_lab.fcm.emulator import FcmEmulator
from heliograph_lab.fcm.model import Registration
from heliograph_lab.web import Reply, Request, Router

_Text = Annotated[str, Meta(min_length=1, max_length=255)]


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    project: _Text
    kind: Literal["token", "fid"] = "token"
    state: Literal["active", "unregistered"] = "active"


class FcmControl:
    """Routes under `/fcm`."""

    def __init__(self, fcm: FcmEmulator) -> None:
        self._fcm = fcm

    def add_to(self, control: Router) -> None:
        """Add the routes to the control API."""
        control.add("GET", "/fcm", self._show)
        control.add("GET", "/fcm/registrations", self._registrations)
        control.add("PUT", "/fcm/registrations/{address}", self._put)

    async def _show(self, _request: Request) -> Reply:
        return Reply(self._fcm.sent)

    async def _registrations(self, _request: Request) -> Reply:
        return Reply({"items": [self._shown(registration) for registration in self._fcm.store.registrations()]})

    async def _put(self, request: Request) -> Reply:
        address = request.params["address"]
        try:
            wanted = msgspec.convert(request.json(), _Wanted)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        known = self._fcm.store.registration(address)
        owner = known.owner if known is not None else f"control/{address}"
        registration = Registration(address=address, kind=wanted.kind, project=wanted.project, owner=owner)
        await self._fcm.store.put(registration)
        if wanted.state == "unregistered":
            await self._fcm.end(address)
        return Reply(self._shown(self._fcm.store.registration(address) or registration))

    def _shown(self, registration: Registration) -> dict[str, Any]:
        return {
            "address": registration.address,
            "kind": registration.kind,
            "project": registration.project,
            "state": "unregistered" if registration.ended else "active",
            "online": self._fcm.is_online(registration.address),
            "waiting": [message.name for message in self._fcm.store.waiting(registration.address)],
        }
