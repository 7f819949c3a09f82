"""The set-up verbs that lead to Google and to its enterprises. Listed in app/verbs.py."""

from typing import Any

import msgspec

from heliograph.app import enrolling, setup
from heliograph.app.callers import Caller, permit_address
from heliograph.app.checking import check_enterprise
from heliograph.app.connecting import Wish, connect
from heliograph.app.enrolling import TokenWish, create_enrollment_token, enrollment_page, find_google_enterprise
from heliograph.app.listening import ENTERPRISES_TOPIC
from heliograph.app.services import Services
from heliograph.domain.addresses import is_address
from heliograph.domain.devices import Enterprise
from heliograph.domain.enrollment import EnrollmentToken
from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.domain.times import time_text

Json = dict[str, Any]
# An empty text takes back what was said before.
_ADDRESS = r"(https?://[^\s/]+(/\S*)?)?"
_SUBSCRIPTION = r"(projects/[a-z0-9:.-]{1,100}/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]{2,254})?"
_TOPIC = r"projects/[a-z0-9:.-]{1,100}/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
_NAME = r"enterprises/[A-Za-z0-9_-]{1,64}"
_LISTED = 1_000

CONNECT_MEMBERS = (
    "name", "credentials", "enterpriseToken", "displayName", "callbackUrl", "topic", "subscription", "notifications",
    "newSignUp",
)  # fmt: skip
TOKEN_MEMBERS = ("enterprise", "durationSeconds", "additionalData", "personalUsage", "oneTimeOnly", "policy")


def shown_enterprise(enterprise: Enterprise) -> Json:
    """An enterprise as answers show it."""
    return {
        "id": enterprise.id,
        "platform": enterprise.platform,
        "name": enterprise.name,
        "hasCredentials": enterprise.credentials is not None,
        "apiUrl": enterprise.api_url,
        "subscription": enterprise.subscription,
        "pushAudience": enterprise.push_audience,
        "pushEmail": enterprise.push_email,
        "heardAt": None if enterprise.heard_at is None else time_text(enterprise.heard_at),
    }


def _checked_credentials(s: Services, caller: Caller, body: Fields, text: str | None) -> bytes | None:
    """What is kept of a key file; not every key may name the address that it leads to (ADR 0028)."""
    try:
        kept = None if text is None else s.channels.check_credentials(text.encode())
    except InvalidInput as error:
        raise InvalidInput.of("credentials", str(error)) from None
    if kept is not None and not caller.names_addresses:
        permit_address(s, body, "credentials.token_uri", msgspec.json.decode(kept)["token_uri"])
    return kept


def _service_address(body: Fields, name: str) -> str | None:
    """An address that paths are added to; an empty text takes it back."""
    address = body.text(name)
    if address and not is_address(address):
        body.wrong(name, "must be an http(s) address without user, query and fragment")
    return address


async def add_enterprise(s: Services, caller: Caller, body: Fields) -> Json:
    name = body.text("name", required=True)
    credentials = body.text("credentials", max_length=65_536)
    said: Json = {
        "api_url": _service_address(body, "apiUrl"),
        "subscription": body.text("subscription", pattern=_SUBSCRIPTION, meaning="must be projects/…/subscriptions/…"),
        "push_audience": body.text("pushAudience", max_length=1024),
        "push_email": body.text(
            "pushEmail", pattern=r"([^@\s]+@[^@\s]+)?", meaning="must be a service account's address"
        ),
    }
    body.raise_if_wrong()
    said["credentials"] = _checked_credentials(s, caller, body, credentials)
    await _check_addresses(s, caller, body, name or "", said)
    enterprise = await setup.add_enterprise(s, caller.organization, name or "", said)
    s.wakeups.notify([ENTERPRISES_TOPIC])
    return shown_enterprise(enterprise)


async def _check_addresses(s: Services, caller: Caller, body: Fields, name: str, said: Json) -> None:
    """Credentials go to the addresses that come with them, so not every key may name any (ADR 0028)."""
    if caller.principal is None:
        return
    address, credentials = said["api_url"], said["credentials"]
    if not caller.names_addresses:
        permit_address(s, body, "apiUrl", address)
    known = await setup.find_enterprise(s, caller.organization, name)
    if known is not None and address is not None and (address or None) != known.api_url and credentials is None:
        body.wrong("credentials", "is required where apiUrl changes: those that are stored stay with their address")
    body.raise_if_wrong()


async def list_enterprises(s: Services, caller: Caller, body: Fields) -> Json:
    body.raise_if_wrong()
    return {
        "items": [shown_enterprise(e) for e in await s.store.unit_of_work(caller.organization.id).setup.enterprises()]
    }


async def connect_enterprise(s: Services, caller: Caller, body: Fields) -> Json:
    """Go as far as it goes, and answer with every step."""
    credentials = body.text("credentials", max_length=65_536)
    said: Json = {
        "name": body.text("name", pattern=_NAME, meaning="must look like enterprises/LC0123abcd"),
        "enterprise_token": body.text("enterpriseToken", pattern=r"[\x21-\x7e]+", meaning="must be a token"),
        "callback_url": body.text("callbackUrl", pattern=_ADDRESS, meaning="must be an http(s) address") or None,
        "topic": body.text("topic", pattern=_TOPIC, meaning="must be projects/…/topics/…"),
        "subscription": body.text("subscription", pattern=_SUBSCRIPTION, meaning="must be projects/…/subscriptions/…"),
    }
    display_name = body.text("displayName", max_length=100) or ""
    notifications, new_sign_up = body.boolean("notifications"), body.boolean("newSignUp")
    body.raise_if_wrong()
    checked = _checked_credentials(s, caller, body, credentials)
    body.raise_if_wrong()
    wish = Wish(
        credentials=checked,
        display_name=display_name,
        notifications=notifications is not False,
        new_sign_up=bool(new_sign_up),
        **said,
    )
    outcome = await connect(s, caller.organization, wish)
    return {
        "connected": outcome.connected,
        "project": outcome.steps.project or None,
        "signUpUrl": None if outcome.enterprise is not None else outcome.sign_up_url,
        "enterprise": None if outcome.enterprise is None else shown_enterprise(outcome.enterprise),
        "steps": [step.as_json() for step in outcome.steps.items],
    }


async def check(s: Services, caller: Caller, body: Fields) -> Json:
    """Test one enterprise, or all."""
    reference, send_test = body.text("enterprise"), body.boolean("sendTest")
    body.raise_if_wrong()
    known = [
        e for e in await s.store.unit_of_work(caller.organization.id).setup.enterprises() if e.platform == "android"
    ]
    if reference is not None:
        known = [await find_google_enterprise(s, caller.organization, reference)]
    items = []
    for enterprise in known:
        steps = await check_enterprise(s, enterprise, send_test=bool(send_test))
        items.append({"enterprise": shown_enterprise(enterprise), "steps": [step.as_json() for step in steps.items]})
    return {"items": items}


async def create_token(s: Services, caller: Caller, body: Fields) -> Json:
    """A new enrollment token; its value is in this answer only."""
    reference = body.text("enterprise")
    wish = TokenWish(
        duration_s=body.number("durationSeconds", minimum=enrolling.SHORTEST_S, maximum=enrolling.LONGEST_S) or 3600,
        additional_data=body.text("additionalData", max_length=enrolling.MOST_DATA) or "",
        personal_usage=body.text("personalUsage", choices=enrolling.USAGES),
        one_time_only=bool(body.boolean("oneTimeOnly")),
        policy=body.text("policy") or None,
    )
    body.raise_if_wrong()
    token, made = await create_enrollment_token(s, caller.organization, reference, wish)
    qr_code = made.get("qrCode")
    value = str(made["value"])
    return {
        **_token(token),
        "value": value,
        "qrCode": qr_code if isinstance(qr_code, str) else None,
        "page": enrollment_page(value),
    }


async def list_tokens(s: Services, caller: Caller, body: Fields) -> Json:
    """The newest tokens, without their values."""
    body.raise_if_wrong()
    tokens = await s.store.unit_of_work(caller.organization.id).enrollment.tokens(_LISTED)
    return {"items": [_token(token) for token in tokens]}


def _token(token: EnrollmentToken) -> Json:
    return {
        "id": token.id,
        "name": token.name,
        "enterprise": token.enterprise_id,
        "createdAt": time_text(token.created_at),
        "expiresAt": None if token.expires_at is None else time_text(token.expires_at),
        "additionalData": token.additional_data,
        "personalUsage": token.personal_usage,
        "oneTimeOnly": token.one_time_only,
        "policy": token.policy_name,
    }
