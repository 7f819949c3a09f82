"""The control API's part for Web Push: subscriptions, their ends and their peculiarities."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from heliograph_lab.web import Reply, Request, Router
from heliograph_lab.webpush import model
from heliograph_lab.webpush.emulator import WebPushEmulator
from heliograph_lab.webpush.model import Subscription

_STATES = {"active": None, "unknown": 404, "expired": 410}


class _Wanted(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    owner: Annotated[str, Meta(min_length=1, max_length=255)]
    vapid_key: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{87}=?$")] | Literal[""] = ""


class _Patch(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    state: Literal["active", "unknown", "expired"] | None = None
    longest_life: Annotated[int, Meta(ge=0, le=model.LONGEST_LIFE)] | None = None
    withdraws: bool | None = None


class WebPushControl:
    """Routes under `/webpush`."""

    def __init__(self, webpush: WebPushEmulator) -> None:
        self._webpush = webpush

    def add_to(self, control: Router) -> None:
        """Add the routes to the control API."""
        control.add("GET", "/webpush/subscriptions", self._list)
        control.add("POST", "/webpush/subscriptions", self._subscribe)
        control.add("PUT", "/webpush/subscriptions/{id}", self._change)

    async def _list(self, _request: Request) -> Reply:
        return Reply({"items": [self._shown(subscription) for subscription in self._webpush.store.subscriptions()]})

    async def _subscribe(self, request: Request) -> Reply:
        wanted = _read(request, _Wanted)
        return Reply(self._shown(await self._webpush.store.subscribe(wanted.owner, wanted.vapid_key)))

    async def _change(self, request: Request) -> Reply:
        patch = _read(request, _Patch)
        subscription = self._webpush.store.subscription(request.params["id"])
        if subscription is None:
            raise ValueError("the push service has no such subscription")
        changes: dict[str, Any] = {"ended": _STATES[patch.state]} if patch.state is not None else {}
        if patch.longest_life is not None:
            changes["longest_life"] = patch.longest_life
        if patch.withdraws is not None:
            changes["withdraws"] = patch.withdraws
        changed = msgspec.structs.replace(subscription, **changes)
        await self._webpush.store.change(changed)
        return Reply(self._shown(changed))

    def _shown(self, subscription: Subscription) -> dict[str, Any]:
        store = self._webpush.store
        return {
            "id": subscription.id,
            "owner": subscription.owner,
            "vapidKey": subscription.vapid_key,
            "state": next(state for state, status in _STATES.items() if status == subscription.ended),
            "longestLife": subscription.longest_life,
            "withdraws": subscription.withdraws,
            "online": self._webpush.is_online(subscription.id),
            "subscription": msgspec.json.decode(subscription.shown(self._webpush.url)),
            "waiting": [
                {"id": m.id, "topic": m.topic, "urgency": m.urgency, "expiration": m.expiration}
                for m in store.waiting(subscription.id)
            ],
        }


def _read(request: Request, kind: Any) -> Any:
    try:
        return msgspec.convert(request.json(), kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
