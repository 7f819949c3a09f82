"""Enrollment tokens: what lets a device into a Google enterprise."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from heliograph.app.google_reach import administration, paid, stored_credentials
from heliograph.app.services import SECOND, Services
from heliograph.app.steps import Steps, Stopped
from heliograph.domain.devices import Enterprise, Organization
from heliograph.domain.enrollment import EnrollmentToken
from heliograph.domain.errors import InvalidInput, NotFound
from heliograph.ports.administration import Fault, Resource

MOST_DATA = 1024
SHORTEST_S, LONGEST_S = 60, 10_000 * 365 * 86_400
USAGES = {"allowed": "PERSONAL_USAGE_ALLOWED", "disallowed": "PERSONAL_USAGE_DISALLOWED"}
USAGES["userless"] = "PERSONAL_USAGE_DISALLOWED_USERLESS"
_PAGE = "https://enterprise.google.com/android/enroll?et="


@dataclass(frozen=True, slots=True)
class TokenWish:
    """What an enrollment token shall be like. `personal_usage`: a key of USAGES; None = Google's default."""

    duration_s: float = 3600
    additional_data: str = ""
    personal_usage: str | None = None
    one_time_only: bool = False
    policy: str | None = None


async def find_google_enterprise(s: Services, organization: Organization, reference: str | None) -> Enterprise:
    """A connected Google enterprise by id or name; without either the only one."""
    connected = [e for e in await s.store.unit_of_work(organization.id).setup.enterprises() if e.platform == "android"]
    if reference is not None:
        found = [e for e in connected if reference in (e.id, e.name)]
        if not found:
            raise NotFound(f"no enterprise {reference[:64]!r} is connected here: heliograph enterprise list")
        return found[0]
    if len(connected) != 1:
        names = ", ".join(e.name for e in connected[:10])
        say = f"is required: {names}" if connected else "connect one first: heliograph enterprise connect"
        raise InvalidInput.of("enterprise", say)
    return connected[0]


async def create_enrollment_token(
    s: Services, organization: Organization, reference: str | None, wish: TokenWish
) -> tuple[EnrollmentToken, Resource]:
    """A new token: what is stored of it, and Google's answer with `value` and `qrCode`."""
    enterprise = await find_google_enterprise(s, organization, reference)
    steps = Steps()
    try:
        credentials = stored_credentials(s, enterprise, steps)
        async with administration(s, credentials, enterprise.api_url, steps) as admin:
            made = await paid(s, admin, partial(admin.enterprises.enroll, enterprise.name, _body(wish)))
            if isinstance(made, Fault):
                steps.fault("enterprise", made)
    except Stopped:
        step = steps.items[-1]
        raise InvalidInput.of("", f"no enrollment token: {step.detail}. {step.advice}") from None
    token = EnrollmentToken(
        s.new_id(),
        organization.id,
        enterprise.id,
        str(made["name"]),
        s.clock.now(),
        _time(made.get("expirationTimestamp")),
        wish.additional_data or None,
        wish.policy,
        USAGES.get(wish.personal_usage or ""),
        wish.one_time_only,
    )
    await s.store.unit_of_work(organization.id).enrollment.add_token(token)
    return token, made


def enrollment_page(value: str) -> str:
    """Where a device that is in use already enrols with a token (personally owned, with a work profile)."""
    return _PAGE + value


def _body(wish: TokenWish) -> dict[str, Any]:
    body: dict[str, Any] = {"duration": f"{wish.duration_s:.9f}".rstrip("0").rstrip(".") + "s"}
    if wish.additional_data:
        body["additionalData"] = wish.additional_data
    if wish.personal_usage is not None:
        body["allowPersonalUsage"] = USAGES[wish.personal_usage]
    if wish.one_time_only:
        body["oneTimeOnly"] = True
    if wish.policy:
        body["policyName"] = wish.policy
    return body


def _time(text: Any) -> int | None:
    """RFC 3339 as microseconds since the epoch; None where it is none or too far off."""
    try:
        return int(datetime.fromisoformat(str(text)[:19] + "+00:00").timestamp()) * SECOND
    except (ValueError, OverflowError):
        return None
