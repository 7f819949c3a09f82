"""How a simulated device's apps hear from the push services: a token of each, and what comes by it as an offer.

Each service delivers in its own shape. What Heliograph sends rides in all of them; anything else is another sender's.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from heliograph_lab.apns import ApnsEmulator
from heliograph_lab.apns import Notification as ApnsNotification
from heliograph_lab.clock import LabClock
from heliograph_lab.fcm import FcmEmulator
from heliograph_lab.fcm import Message as FcmMessage
from heliograph_lab.fleet import DeviceSpec
from heliograph_lab.pushy import Push as PushyPush
from heliograph_lab.pushy import PushyEmulator
from heliograph_lab.webpush import Delivery as WebPushDelivery
from heliograph_lab.webpush import WebPushEmulator
from heliograph_lab.wns import Notification as WnsNotification
from heliograph_lab.wns import WnsEmulator
from heliograph_protocol.messages import PushOffer, Target

_log = logging.getLogger(__name__)

Take = Callable[[PushOffer], Awaitable[None]]  # returns once the agent has it on disk
MEMBER = "heliograph"  # where the offer rides in what APNs and FCM carry


class PushLine(Protocol):
    """One push service, seen from its devices."""

    async def address(self, spec: DeviceSpec, app: str) -> Target | None:
        """The address of an app, the same after a restart; None where the device does not use the service."""
        ...

    async def connect(self, token: str, take: Take) -> None:
        """Come online: what waits is delivered, then what follows."""
        ...

    async def disconnect(self, token: str) -> None:
        """Go offline."""
        ...


def offer_of(payload: Any, expires_at: float | None, now: float) -> PushOffer | None:
    """What Heliograph sent, with the life that is left of it; None for what is none of its pushes."""
    left_s = 1.0 if expires_at is None else expires_at - now
    offer = {**payload, "expiresInMs": max(1, int(left_s * 1000))} if isinstance(payload, Mapping) else payload
    try:
        return msgspec.convert(offer, PushOffer)
    except msgspec.ValidationError as error:
        _log.warning("the app ignores a push that is none of Heliograph's: %s", error)
        return None


class _Pushy:
    def __init__(self, pushy: PushyEmulator, clock: LabClock) -> None:
        self._pushy, self._clock = pushy, clock

    async def address(self, spec: DeviceSpec, app: str) -> Target | None:
        if spec.pushy is None:
            return None
        token = await self._pushy.register(spec.pushy.api_key, f"{spec.device_id}/{app}")
        return Target(provider="pushy", token=token)

    async def connect(self, token: str, take: Take) -> None:
        async def deliver(push: PushyPush) -> None:
            offer = offer_of(push.payload, push.expiration, self._clock.now().timestamp())
            if offer is not None:
                await take(offer)

        await self._pushy.connect(token, deliver)

    async def disconnect(self, token: str) -> None:
        await self._pushy.disconnect(token)


class _Apns:
    def __init__(self, apns: ApnsEmulator, clock: LabClock) -> None:
        self._apns, self._clock = apns, clock

    async def address(self, spec: DeviceSpec, app: str) -> Target | None:
        if spec.apns is None:
            return None
        token = await self._apns.register(spec.apns.topic, f"{spec.device_id}/{app}")
        return Target(provider="apns", token=token)

    async def connect(self, token: str, take: Take) -> None:
        async def deliver(push: ApnsNotification) -> None:
            offer = offer_of(_with_alert(push.payload), push.expiration, self._clock.now().timestamp())
            if offer is not None:
                await take(offer)

        await self._apns.connect(token, deliver)

    async def disconnect(self, token: str) -> None:
        await self._apns.disconnect(token)


def _with_alert(payload: Mapping[str, Any]) -> Any:
    """The offer, with the words that the system shows in its stead."""
    offer, aps = payload.get(MEMBER), payload.get("aps")
    alert = aps.get("alert") if isinstance(aps, Mapping) else None
    if not isinstance(offer, Mapping) or not isinstance(alert, Mapping):
        return offer
    return {**{name: alert[name] for name in ("title", "body") if name in alert}, **offer}


class _Fcm:
    def __init__(self, fcm: FcmEmulator, clock: LabClock) -> None:
        self._fcm, self._clock = fcm, clock

    async def address(self, spec: DeviceSpec, app: str) -> Target | None:
        if spec.fcm is None:
            return None
        token = await self._fcm.register(spec.fcm.project, f"{spec.device_id}/{app}")
        return Target(provider="fcm", token=token)

    async def connect(self, token: str, take: Take) -> None:
        async def deliver(message: FcmMessage) -> None:
            offer = offer_of(_decoded(message.data.get(MEMBER)), message.expiration, self._clock.now().timestamp())
            if offer is not None:
                await take(offer)

        await self._fcm.connect(token, deliver)

    async def disconnect(self, token: str) -> None:
        await self._fcm.disconnect(token)


class _WebPush:
    def __init__(self, webpush: WebPushEmulator, clock: LabClock) -> None:
        self._webpush, self._clock = webpush, clock

    async def address(self, spec: DeviceSpec, app: str) -> Target | None:
        if spec.webpush is None:
            return None
        token = await self._webpush.subscribe(f"{spec.device_id}/{app}", spec.webpush.vapid_key)
        return Target(provider="webpush", token=token)

    async def connect(self, token: str, take: Take) -> None:
        async def deliver(push: WebPushDelivery) -> None:
            offer = offer_of(push.payload, push.expiration, self._clock.now().timestamp())
            if offer is not None:
                await take(offer)

        await self._webpush.connect(token, deliver)

    async def disconnect(self, token: str) -> None:
        await self._webpush.disconnect(token)


def _decoded(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text or "")
    except msgspec.DecodeError:
        return None


class _Wns:
    def __init__(self, wns: WnsEmulator, clock: LabClock) -> None:
        self._wns, self._clock = wns, clock

    async def address(self, spec: DeviceSpec, app: str) -> Target | None:
        if spec.wns is None:
            return None
        uri = await self._wns.register(spec.wns.app, f"{spec.device_id}/{app}")
        return Target(provider="wns", token=uri)

    async def connect(self, token: str, take: Take) -> None:
        async def deliver(push: WnsNotification) -> None:
            offer = offer_of(push.payload, push.expiration, self._clock.now().timestamp())
            if offer is not None:
                await take(offer)

        await self._wns.connect(token, deliver)

    async def disconnect(self, token: str) -> None:
        await self._wns.disconnect(token)


def push_lines(
    clock: LabClock,
    *,
    pushy: PushyEmulator | None = None,
    apns: ApnsEmulator | None = None,
    fcm: FcmEmulator | None = None,
    wns: WnsEmulator | None = None,
    webpush: WebPushEmulator | None = None,
) -> dict[str, PushLine]:
    """The services that there are, by the names that devices give them."""
    lines: dict[str, PushLine] = {}
    if pushy is not None:
        lines["pushy"] = _Pushy(pushy, clock)
    if apns is not None:
        lines["apns"] = _Apns(apns, clock)
    if fcm is not None:
        lines["fcm"] = _Fcm(fcm, clock)
    if wns is not None:
        lines["wns"] = _Wns(wns, clock)
    if webpush is not None:
        lines["webpush"] = _WebPush(webpush, clock)
    return lines
