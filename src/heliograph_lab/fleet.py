"""The simulated devices: what each of them is, and how it behaves just now."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from heliograph_lab.kernel import Kernel
from heliograph_lab.state import Key, Put

_NAMESPACE = "fleet"
Result = Literal["ok", "error", "never"]
Cancel = Literal["wins", "loses", "lost", "501", "400", "404"]


class FleetError(ValueError):
    """A specification or patch that cannot be meant; the message says which member and why."""


class UnknownDeviceError(LookupError):
    """No such device."""


class AmapiSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What Google knows of an Android device; `name` is its resource name, `enterprises/…/devices/…`."""

    name: str
    ownership: str = "COMPANY_OWNED"
    management_mode: str = "DEVICE_OWNER"
    api_level: int = 34


class PushySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The Pushy app that the device's agents are registered with, named by its API key."""

    api_key: str


class ApnsSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The app at Apple that the device's agents are, named by its bundle id."""

    topic: str


class FcmSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The Firebase project that the device's agents are registered with."""

    project: str


class WebPushSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The key that the device's apps subscribe with (applicationServerKey, base64url); empty = any may send."""

    vapid_key: str = ""


class WnsSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The app at WNS that the device's agents have channels of, named by its package SID or client id."""

    app: str


class Outcome(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True
):
    """How the device answers commands, and how a cancel ends. `statuses` = per-command details of AMAPI results."""

    result: Result = "ok"
    error_code: str | None = None
    cancel: Cancel = "wins"
    statuses: dict[str, Any] | None = None


class DeviceSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a device is. `online` is how it begins; afterwards its own state counts."""

    device_id: str
    name: str
    platform: str
    all_platform_id: str = ""
    serial_number: str = ""
    provider: str = "builtin"
    online: bool = True
    secret: str = ""
    apps: tuple[str, ...] = ("mdmAgent",)
    server_url: str = ""
    amapi: AmapiSpec | None = None
    pushy: PushySpec | None = None
    apns: ApnsSpec | None = None
    fcm: FcmSpec | None = None
    webpush: WebPushSpec | None = None
    wns: WnsSpec | None = None


class DeviceState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A device as it is now. `removed` is set in the last notice about a device that left the fleet.

    `enrolled`: it came in by an enrollment token, so its name at Google is Google's to say, not a specification's.
    """

    spec: DeviceSpec
    online: bool
    enrolled: bool = False
    latency_ms: int = 0
    outcome: Outcome = Outcome()
    removed: bool = False


Listener = Callable[[DeviceState], None]


class Fleet:
    """All devices. Everything is on disk before it is in force."""

    def __init__(self, kernel: Kernel) -> None:
        self._state = kernel.state
        self._lock = asyncio.Lock()
        self._listeners: list[Listener] = []
        self._devices: dict[str, DeviceState] = {}
        self._by_amapi_name: dict[str, str] = {}
        stored = kernel.state.all(_NAMESPACE)
        ordered = sorted(stored.values(), key=lambda value: int(value["order"]))
        self._hold(msgspec.convert(value["device"], DeviceState) for value in ordered)

    def devices(self) -> list[DeviceState]:
        """Every device, in the order in which they were put."""
        return list(self._devices.values())

    def get(self, device_id: str) -> DeviceState:
        """One device; UnknownDeviceError if there is none."""
        try:
            return self._devices[device_id]
        except KeyError:
            raise UnknownDeviceError(f"no device {device_id!r} in the lab") from None

    def by_amapi_name(self, name: str) -> DeviceState | None:
        """The Android device with this resource name at Google."""
        device_id = self._by_amapi_name.get(name)
        return self._devices[device_id] if device_id is not None else None

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with each device that is new, changed or removed, once that is on disk."""
        self._listeners.append(listener)

    async def put_all(self, specs: Iterable[DeviceSpec]) -> None:
        """Make the fleet these devices. One that was there keeps its state (online, latency, outcome).

        Devices that have enrolled stay, named here or not.
        """
        wanted = list(specs)
        async with self._lock:
            before = self._devices
            after = {spec.device_id: self._merged(spec) for spec in wanted}
            _check(wanted)
            after |= {key: device for key, device in before.items() if device.enrolled and key not in after}
            _check([device.spec for device in after.values()])
            gone = [device for device_id, device in before.items() if device_id not in after]
            puts = [(_NAMESPACE, key, _stored(order, device)) for order, (key, device) in enumerate(after.items())]
            await self._state.put_many(puts, deletes=[(_NAMESPACE, device.spec.device_id) for device in gone])
            self._hold(after.values())
        for device in gone:
            self._tell(msgspec.structs.replace(device, online=False, removed=True))
        for device_id, device in after.items():
            if before.get(device_id) != device:
                self._tell(device)

    async def update(self, device_id: str, patch: Any) -> DeviceState:
        """Change online, latencyMs, outcome (decoded JSON): absent members stay, a bad one changes nothing."""
        async with self._lock:
            before = self.get(device_id)
            after = _patched(before, patch)
            if after == before:
                return before
            order = list(self._devices).index(device_id)
            await self._state.put(_NAMESPACE, device_id, _stored(order, after))
            self._devices[device_id] = after
        self._tell(after)
        return after

    async def enrol(self, spec: DeviceSpec, puts: Iterable[Put] = (), deletes: Iterable[Key] = ()) -> DeviceState:
        """Take in one device, or one that is there under a new name at Google; in one commit with other changes."""
        async with self._lock:
            after = msgspec.structs.replace(self._merged(spec), spec=spec, online=spec.online, enrolled=True)
            devices = {**self._devices, spec.device_id: after}
            _check([device.spec for device in devices.values()])
            order = list(devices).index(spec.device_id)
            stored = (_NAMESPACE, spec.device_id, _stored(order, after))
            await self._state.put_many([stored, *puts], deletes)
            self._hold(devices.values())
        self._tell(after)
        return after

    async def remove(self, device_id: str) -> None:
        """Take one device out of the fleet."""
        async with self._lock:
            gone = self.get(device_id)
            await self._state.delete(_NAMESPACE, device_id)
            self._hold([device for key, device in self._devices.items() if key != device_id])
        self._tell(msgspec.structs.replace(gone, online=False, removed=True))

    def _merged(self, spec: DeviceSpec) -> DeviceState:
        known = self._devices.get(spec.device_id)
        if known is None:
            return DeviceState(spec=spec, online=spec.online)
        if known.enrolled:
            spec = msgspec.structs.replace(spec, amapi=known.spec.amapi)
        return msgspec.structs.replace(known, spec=spec)

    def _hold(self, devices: Iterable[DeviceState]) -> None:
        self._devices = {device.spec.device_id: device for device in devices}
        self._by_amapi_name = {d.spec.amapi.name: key for key, d in self._devices.items() if d.spec.amapi}

    def _tell(self, device: DeviceState) -> None:
        for listener in self._listeners:
            listener(device)


def _stored(order: int, device: DeviceState) -> dict[str, Any]:
    return {"order": order, "device": device}


def _check(specs: list[DeviceSpec]) -> None:
    seen: set[str] = set()
    names: set[str] = set()
    for spec in specs:
        if not spec.device_id or spec.device_id in seen:
            raise FleetError(f"deviceId {spec.device_id!r}: must not be empty, and only once in the fleet")
        seen.add(spec.device_id)
        if spec.provider == "pushy" and spec.pushy is None:
            raise FleetError(f"device {spec.device_id}: provider pushy needs pushy.apiKey")
        if spec.provider == "webpush" and spec.webpush is None:
            raise FleetError(f"device {spec.device_id}: provider webpush needs webpush, which may be {{}}")
        if spec.provider == "wns" and spec.wns is None:
            raise FleetError(f"device {spec.device_id}: provider wns needs wns.app")
        if spec.amapi is not None and spec.amapi.name in names:
            raise FleetError(f"device {spec.device_id}: amapi.name {spec.amapi.name!r} is taken")
        if spec.amapi is not None:
            names.add(spec.amapi.name)


def _patched(device: DeviceState, patch: Any) -> DeviceState:
    if not isinstance(patch, dict):
        raise FleetError("the body must be an object")
    changes: dict[str, Any] = {}
    for name, value in patch.items():
        if name == "online":
            if not isinstance(value, bool):
                raise FleetError("online: must be true or false")
            changes["online"] = value
        elif name == "latencyMs":
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 86_400_000:
                raise FleetError("latencyMs: must be an integer, 0 to 86400000")
            changes["latency_ms"] = value
        elif name == "outcome":
            changes["outcome"] = _outcome(device.outcome, value)
        else:
            raise FleetError(f"{name}: unknown member; online, latencyMs and outcome can be set")
    return msgspec.structs.replace(device, **changes)


def _outcome(now: Outcome, patch: Any) -> Outcome:
    if not isinstance(patch, dict):
        raise FleetError("outcome: must be an object")
    merged = {**msgspec.to_builtins(now), **patch}
    if isinstance(merged.get("cancel"), int) and not isinstance(merged["cancel"], bool):
        merged["cancel"] = str(merged["cancel"])  # 501 means "501"
    try:
        return msgspec.convert(merged, Outcome)
    except msgspec.ValidationError as error:
        raise FleetError(f"outcome: {error}") from None
