"""Enrollment tokens: what lets a device in, and what it is told on the way."""

import asyncio
import json
import secrets
from datetime import datetime, timedelta
from typing import Any

import msgspec

from heliograph_lab.amapi.errors import ApiError, Violations
from heliograph_lab.amapi.validate import parse_message, without_defaults
from heliograph_lab.amapi.wire import duration_text, milliseconds, parse_duration, timestamp
from heliograph_lab.kernel import Kernel
from heliograph_lab.state import Put

_NAMESPACE = "amapi.tokens"
_MOST = 10_000
_LONGEST_DATA = 1024
_SHORTEST = timedelta(minutes=1)
_DEFAULT = "3600s"
_END_OF_TIME = "9999-12-31T23:59:59.999999999Z"
_ASKED = (
    "duration",
    "additionalData",
    "policyName",
    "oneTimeOnly",
    "allowPersonalUsage",
    "googleAuthenticationOptions",
)
_PARTIAL = ("name", "expirationTimestamp", "allowPersonalUsage", "value", "qrCode")
# What Android's provisioning needs to fetch and check Google's device agent; the same in every code.
_AGENT = "com.google.android.apps.work.clouddpc"
_EXTRA = "android.app.extra.PROVISIONING_"
_PROVISIONING = {
    f"{_EXTRA}DEVICE_ADMIN_COMPONENT_NAME": f"{_AGENT}/.receivers.CloudDeviceAdminReceiver",
    f"{_EXTRA}DEVICE_ADMIN_SIGNATURE_CHECKSUM": "I5YvS0O5hXY46mb01BlRjq4oJJGs2kuUcHvVkAPEXlg",
    f"{_EXTRA}DEVICE_ADMIN_PACKAGE_DOWNLOAD_LOCATION": (
        "https://play.google.com/managed/downloadManagingApp?identifier=setup"
    ),
}


class Token(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One token. `expires_at` None = at the end of the calendar."""

    name: str
    value: str
    number: int
    fields: dict[str, Any] = {}
    expires_at: datetime | None = None
    used: bool = False

    @property
    def enterprise(self) -> str:
        """The enterprise's resource name."""
        return self.name.partition("/enrollmentTokens/")[0]

    def resource(self) -> dict[str, Any]:
        """Everything, as only the answer to create shows it."""
        extras = {f"{_EXTRA}ADMIN_EXTRAS_BUNDLE": {f"{_AGENT}.EXTRA_ENROLLMENT_TOKEN": self.value}}
        return {
            "name": self.name,
            "value": self.value,
            **self.fields,
            "expirationTimestamp": timestamp(self.expires_at) if self.expires_at is not None else _END_OF_TIME,
            "qrCode": json.dumps(_PROVISIONING | extras, separators=(",", ":")),
        }

    def partial(self) -> dict[str, Any]:
        """What get and list show."""
        whole = self.resource()
        return {key: whole[key] for key in _PARTIAL if key in whole}


class Tokens:
    """All tokens. Expired, used-up and deleted ones are forgotten."""

    def __init__(self, kernel: Kernel) -> None:
        self._state = kernel.state
        self._clock = kernel.clock
        stored = [msgspec.convert(value, Token) for value in kernel.state.all(_NAMESPACE).values()]
        self._tokens = {token.name: token for token in sorted(stored, key=lambda token: token.number)}
        self._lock = asyncio.Lock()

    async def create(self, enterprise: str, body: Any) -> dict[str, Any]:
        """enrollmentTokens.create."""
        fields, duration = _parsed(enterprise, body)
        async with self._lock:
            gone = [name for name, token in self._tokens.items() if not self._is_active(token)]
            if len(self._tokens) - len(gone) >= _MOST:
                raise ApiError(429, f"The lab holds no more than {_MOST} enrollment tokens.")
            now = self._clock.now()
            number = max(milliseconds(now), 1 + max((token.number for token in self._tokens.values()), default=0))
            value = secrets.token_hex(10).upper()
            name = f"{enterprise}/enrollmentTokens/{secrets.token_urlsafe(24)}"
            token = Token(name, value, number, fields, _later(now, duration))
            await self._state.put_many([(_NAMESPACE, name, token)], deletes=[(_NAMESPACE, key) for key in gone])
            for key in gone:
                del self._tokens[key]
            self._tokens[name] = token
        return token.resource()

    def require(self, name: str) -> Token:
        """A token that can be used; 404 for all others."""
        token = self._tokens.get(name)
        if token is None or not self._is_active(token):
            raise ApiError(404)
        return token

    def by_value(self, value: str) -> Token | None:
        """The token of this value, if it can be used."""
        found = (token for token in self._tokens.values() if token.value == value)
        token = next(found, None)
        return token if token is not None and self._is_active(token) else None

    def after(self, enterprise: str, number: int) -> list[Token]:
        """The enterprise's usable tokens made later than this number, oldest first."""
        return [
            token
            for token in self._tokens.values()
            if token.number > number and token.enterprise == enterprise and self._is_active(token)
        ]

    def use(self, token: Token) -> list[Put]:
        """What has to go to disk with the device that comes in by this token; `used` follows once that is done."""
        if not token.fields.get("oneTimeOnly"):
            return []  # nothing changes, and one that is deleted meanwhile must not come back
        return [(_NAMESPACE, token.name, msgspec.structs.replace(token, used=True))]

    def used(self, token: Token) -> None:
        """The use of a token is on disk."""
        if token.fields.get("oneTimeOnly") and token.name in self._tokens:
            self._tokens[token.name] = msgspec.structs.replace(token, used=True)

    async def delete(self, name: str) -> None:
        """enrollmentTokens.delete."""
        async with self._lock:
            self.require(name)
            await self._state.delete(_NAMESPACE, name)
            self._tokens.pop(name, None)

    async def drop(self, enterprise: str) -> None:
        """Forget every token of an enterprise."""
        async with self._lock:
            gone = [name for name, token in self._tokens.items() if token.enterprise == enterprise]
            await self._state.put_many([], deletes=[(_NAMESPACE, name) for name in gone])
            for name in gone:
                del self._tokens[name]

    def _is_active(self, token: Token) -> bool:
        return not token.used and (token.expires_at is None or token.expires_at > self._clock.now())


def _parsed(enterprise: str, body: Any) -> tuple[dict[str, Any], timedelta]:
    found = Violations()
    given = parse_message("EnrollmentToken", body, found)
    found.raise_if_any()
    fields = {name: given[name] for name in _ASKED if name in given}  # the rest is the server's, or ignored
    text = fields.get("duration") or _DEFAULT
    duration = parse_duration(text)
    if duration is None or duration < _SHORTEST:
        found.add("duration", "The duration must be at least one minute.")
    if len(fields.get("additionalData", "")) > _LONGEST_DATA:
        found.add("additional_data", f"The data is longer than {_LONGEST_DATA} characters.")
    policy = fields.get("policyName", "")
    if policy:
        fields["policyName"] = policy_name(enterprise, policy, found)
    found.raise_if_any()
    fields["duration"] = duration_text(text)
    return without_defaults("EnrollmentToken", fields), duration or _SHORTEST


def policy_name(enterprise: str, given: str, found: Violations) -> str:
    """The whole name of a policy; its id alone is enough, as long as it has no slash."""
    name = given if "/" in given else f"{enterprise}/policies/{given}"
    head, _, last = name.rpartition("/")
    if head != f"{enterprise}/policies" or not last:
        found.add("policy_name", f"The policy must be one of {enterprise}.")
    return name


def _later(now: datetime, duration: timedelta) -> datetime | None:
    try:
        return now + duration
    except OverflowError:
        return None
