"""A virtual device comes in by an enrollment token, as a phone does that has read its QR code."""

import asyncio
import secrets
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from heliograph_lab.amapi.devices import Enrolled, Registry
from heliograph_lab.amapi.enterprises import Enterprises
from heliograph_lab.amapi.errors import ApiError
from heliograph_lab.amapi.tokens import Token, Tokens
from heliograph_lab.amapi.wire import timestamp
from heliograph_lab.fleet import AmapiSpec, DeviceSpec, DeviceState, Fleet
from heliograph_lab.kernel import Kernel

_MOST_DEVICES = 200_000
_LONGEST_HISTORY = 100
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class EnrolmentError(ValueError):
    """A device that cannot come in; the message says why, as the phone's screen would."""


class Application(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of `POST /devices`. What is left out is made up."""

    enrollment_token: Annotated[str, Meta(max_length=200)]
    device_id: Id | None = None
    name: Id | None = None
    serial_number: Id | None = None
    ownership: Literal["COMPANY_OWNED", "PERSONALLY_OWNED"] = "COMPANY_OWNED"
    api_level: Annotated[int, Meta(ge=21, le=100)] = 34
    online: bool = True


class Enrolment:
    """Lets devices in."""

    def __init__(
        self, kernel: Kernel, fleet: Fleet, tokens: Tokens, registry: Registry, enterprises: Enterprises
    ) -> None:
        self._clock = kernel.clock
        self._fleet = fleet
        self._tokens = tokens
        self._registry = registry
        self._enterprises = enterprises
        self._lock = asyncio.Lock()

    async def enrol(self, body: Any) -> tuple[DeviceState, str]:
        """The device as it is now, and its name at Google. A serial number that is known is the same phone, reset."""
        try:
            asked = msgspec.convert(body, Application)
        except msgspec.ValidationError as error:
            raise EnrolmentError(str(error)) from None
        async with self._lock:
            token = self._admitted(asked)
            known = self._known(asked)
            if known is None and len(self._fleet.devices()) >= _MOST_DEVICES:
                raise EnrolmentError(f"the lab holds no more than {_MOST_DEVICES} devices")
            spec = _spec(asked, token, known)
            old = known.spec.amapi.name if known is not None and known.spec.amapi is not None else ""
            enrolled = Enrolled(
                token_name=token.name,
                token_data=token.fields.get("additionalData", ""),
                policy_name=token.fields.get("policyName") or f"{token.enterprise}/policies/default",
                at=timestamp(self._clock.now()),
                before=self._before(old, token.enterprise),
            )
            name = spec.amapi.name if spec.amapi is not None else ""
            puts, deletes = self._registry.admit(name, enrolled, old)
            device = await self._fleet.enrol(spec, [*puts, *self._tokens.use(token)], deletes)
            self._tokens.used(token)
        return device, name

    def _admitted(self, asked: Application) -> Token:
        token = self._tokens.by_value(asked.enrollment_token)
        if token is None:
            raise EnrolmentError("enrollmentToken: unknown, expired, deleted or used up")
        try:
            self._enterprises.require(token.enterprise)
        except ApiError:
            raise EnrolmentError("enrollmentToken: its enterprise is gone") from None
        usage = token.fields.get("allowPersonalUsage", "")
        if asked.ownership == "PERSONALLY_OWNED" and usage.startswith("PERSONAL_USAGE_DISALLOWED"):
            raise EnrolmentError("the token does not admit personally-owned devices")
        return token

    def _known(self, asked: Application) -> DeviceState | None:
        for device in self._fleet.devices():
            same_id = device.spec.device_id == asked.device_id
            same_serial = asked.serial_number is not None and device.spec.serial_number == asked.serial_number
            if same_id and asked.serial_number is not None and not same_serial:
                raise EnrolmentError(f"deviceId {asked.device_id!r}: is another phone, with another serial number")
            if (same_id or same_serial) and device.spec.platform != "android":
                raise EnrolmentError(f"device {device.spec.device_id!r} is no Android device")
            if same_id or (same_serial and asked.device_id is None):
                return device
            if same_serial:
                raise EnrolmentError(f"serialNumber {asked.serial_number!r}: is that of {device.spec.device_id!r}")
        return None

    def _before(self, old: str, enterprise: str) -> tuple[str, ...]:
        # An enterprise is told its own names only.
        if not old.startswith(f"{enterprise}/"):
            return ()
        return (*self._registry.names_before(old), old)[-_LONGEST_HISTORY:]


def _spec(asked: Application, token: Token, known: DeviceState | None) -> DeviceSpec:
    ident = secrets.token_hex(8)
    work_profile = asked.ownership == "PERSONALLY_OWNED" or (
        token.fields.get("allowPersonalUsage") == "PERSONAL_USAGE_ALLOWED"
    )
    amapi = AmapiSpec(
        name=f"{token.enterprise}/devices/{ident}",
        ownership=asked.ownership,
        management_mode="PROFILE_OWNER" if work_profile else "DEVICE_OWNER",
        api_level=asked.api_level,
    )
    if known is not None:
        return msgspec.structs.replace(known.spec, amapi=amapi, name=asked.name or known.spec.name, online=asked.online)
    device_id = asked.device_id or ident
    serial = asked.serial_number or f"LAB{secrets.token_hex(4).upper()}"
    return DeviceSpec(
        device_id=device_id,
        name=asked.name or device_id,
        platform="android",
        serial_number=serial,
        apps=(),
        online=asked.online,
        amapi=amapi,
    )
