"""The questions: one function each, and a table that says what each does to the device and which settings it decides.

Asked in the order of the table, with the device off until SUCCESS.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.live.notified import notifications
from tests.live.pages import devices_pages, operations_pages
from tests.live.project import Answer, NotLearnt, only
from tests.live.rate import quota
from tests.live.session import Session
from tests.live.target import GONE_DEVICE, SUBSCRIPTION

Learnt = dict[str, Any]
"""Setting → value, or NotLearnt with the reason."""

_CANCEL_ANSWERS = {200: "ok", 400: "400", 403: "403", 404: "404", 501: "501"}
_LONG_AGO = 1262304000000  # the form of an operation's id: a time in milliseconds, here one before the API was
_EXPIRY_S = 60
_CANCELLED = 1


async def token(s: Session) -> Learnt:
    """A read without a token."""
    answer = await s.project.ask("GET", s.target.device, with_token=False, kept=only())
    if answer.status not in (200, 401):
        raise NotLearnt(f"the answer was {answer.status}")
    return {"amapi.requireToken": answer.status == 401}


def _said(answer: Answer) -> str:
    """An answer to a cancel as the settings name it."""
    if answer.status not in _CANCEL_ANSWERS:
        raise NotLearnt(f"the answer was {answer.status} {answer.message}, which is no value of the setting")
    return _CANCEL_ANSWERS[answer.status]


async def cancel_unknown(s: Session) -> Learnt:
    """Cancel what never was."""
    return {"amapi.cancelUnknown": _said(await s.cancel(f"{s.target.device}/operations/{_LONG_AGO}"))}


async def cancel_foreign(s: Session) -> Learnt:
    """Cancel what belongs to an enterprise that is not ours; the name is made up, so nobody's command is met."""
    foreign = f"enterprises/LC{secrets.token_hex(5)}"
    s.cleaner.hide(foreign, shown="enterprises/FOREIGN")
    answer = await s.cancel(f"{foreign}/devices/{secrets.token_hex(8)}/operations/{_LONG_AGO}")
    return {"amapi.cancelForeign": _said(answer)}


async def default_duration(s: Session) -> Learnt:
    """A LOCK without duration, taken back at once."""
    issued = await s.issue()
    await s.cancel(issued["name"])
    text = issued["metadata"].get("duration")
    if not isinstance(text, str):
        raise NotLearnt("the operation does not say its duration")
    return {"amapi.defaultDuration": float(text.removesuffix("s"))}


async def cancel_open(s: Session) -> Learnt:
    """A LOCK that is taken back before the device can have it."""
    name = (await s.issue(duration="900s"))["name"]
    begun = s.around.now()
    answer = await s.cancel(name)
    if answer.status != 200:
        raise NotLearnt(f"the cancel was refused: {answer.status} {answer.message}")
    lead = s.around.now() - begun
    ended = await s.ended(name, s.patience.outcome)
    if ended.operation.get("error", {}).get("code") != _CANCELLED:
        raise NotLearnt("the operation ended otherwise than cancelled: is the device off?")
    s.known["cancelled"] = name
    low, high = ended.between
    s.measured["amapi.cancelDelay"] = [low, round(lead + high, 3)]
    return {"amapi.cancelDelay": round(lead + high, 3)}


async def cancel_cancelled(s: Session) -> Learnt:
    """Cancel the cancelled one again."""
    return {"amapi.cancelFinished": _said(await s.cancel(s.example("cancelled")))}


async def expiry(s: Session) -> Learnt:
    """A LOCK that the device does not get in its time."""
    name = (await s.issue(duration=f"{_EXPIRY_S}s"))["name"]
    await s.around.sleep(_EXPIRY_S)
    error = (await s.ended(name, s.patience.outcome)).operation.get("error")
    if error is None:
        raise NotLearnt("the operation ended without error: is the device off?")
    if error.get("code") == _CANCELLED:
        raise NotLearnt("the operation ended as a cancelled one does")
    s.known["expired"] = name
    silent = NotLearnt("the error has no message")
    return {"amapi.expiryCode": error.get("code") or None, "amapi.expiryMessage": error.get("message") or silent}


async def cancel_expired(s: Session) -> Learnt:
    """Cancel the expired one."""
    return {"amapi.cancelExpired": _said(await s.cancel(s.example("expired")))}


async def echo(s: Session) -> Learnt:
    """A RESET_PASSWORD that is taken back at once."""
    password = "Aa1" + secrets.token_hex(8)
    s.cleaner.hide(password)
    issued = await s.issue(type="RESET_PASSWORD", newPassword=password, duration=f"{_EXPIRY_S}s")
    await s.cancel(issued["name"])
    shown = (issued, await s.get(issued["name"]))
    return {"amapi.echoNewPassword": any("newPassword" in operation["metadata"] for operation in shown)}


async def success(s: Session) -> Learnt:
    """A LOCK that the device executes."""
    name = (await s.issue(duration=f"{s.patience.device:.0f}s"))["name"]
    await s.around.switch(on=True)
    operation = (await s.ended(name, s.patience.device)).operation
    if "error" in operation or "errorCode" in operation["metadata"]:
        raise NotLearnt("the device did not execute the command: was it switched on in time?")
    s.known["succeeded"] = name
    return {"amapi.successResponse": "response" in operation}


async def cancel_succeeded(s: Session) -> Learnt:
    """Cancel the executed one."""
    return {"amapi.cancelFinished": _said(await s.cancel(s.example("succeeded")))}


async def unmanaged(s: Session) -> Learnt:
    """A LOCK for a device that is gone."""
    gone = s.target.gone_device or ""
    if (await s.project.ask("GET", gone, kept=only())).status != 404:
        raise NotLearnt("Google still knows the device, so it would be locked")
    answer = await s.project.ask("POST", f"{gone}:issueCommand", {"type": "LOCK", "duration": f"{_EXPIRY_S}s"})
    if "no longer being managed" in answer.message.lower():
        return {"amapi.unmanagedStatus": answer.status}
    if answer.status != 404:
        raise NotLearnt(f"the answer was {answer.status} {answer.message}")
    return {"amapi.unmanagedStatus": None}


@dataclass(frozen=True)
class Question:
    """`does`: to the device, or to the project. `needs`: a variable that has to be set, or a word in ALLOW."""

    name: str
    does: str
    settings: tuple[str, ...]
    ask: Callable[[Session], Awaitable[Learnt]]
    needs: str | None = None


QUESTIONS = (
    Question("token", "nothing: a read", ("amapi.requireToken",), token),
    Question("cancel-unknown", "nothing: cancels what never was", ("amapi.cancelUnknown",), cancel_unknown),
    Question("cancel-foreign", "nothing: cancels under a made-up name", ("amapi.cancelForeign",), cancel_foreign),
    Question(
        "default-duration", "a LOCK, cancelled at once (device off)", ("amapi.defaultDuration",), default_duration
    ),
    Question(
        "cancel-open", "a LOCK of 15 minutes, cancelled at once (device off)", ("amapi.cancelDelay",), cancel_open
    ),
    Question("cancel-cancelled", "nothing: cancels that one again", ("amapi.cancelFinished",), cancel_cancelled),
    Question(
        "expiry",
        f"a LOCK of {_EXPIRY_S} s that expires (device off)",
        ("amapi.expiryCode", "amapi.expiryMessage"),
        expiry,
    ),
    Question("cancel-expired", "nothing: cancels the expired one", ("amapi.cancelExpired",), cancel_expired),
    Question(
        "echo",
        "a RESET_PASSWORD of 60 s, cancelled at once (device off). A device that is on gets a password nobody knows",
        ("amapi.echoNewPassword",),
        echo,
        "reset-password",
    ),
    Question("success", "locks it, once it is switched on again", ("amapi.successResponse",), success),
    Question("cancel-succeeded", "nothing: cancels the executed one", ("amapi.cancelFinished",), cancel_succeeded),
    Question(
        "notifications",
        "nothing: pulls, and acknowledges what is about these commands",
        ("pubsub.cancelled", "pubsub.expired"),
        notifications,
        SUBSCRIPTION,
    ),
    Question(
        "unmanaged", "nothing: a LOCK for a device that is gone", ("amapi.unmanagedStatus",), unmanaged, GONE_DEVICE
    ),
    Question("devices-pages", "nothing: two reads", ("amapi.devicesPage", "amapi.devicesPageMax"), devices_pages),
    Question(
        "operations-pages",
        "nothing: two reads",
        ("amapi.operationsPage", "amapi.operationsPageMax"),
        operations_pages,
    ),
    Question(
        "quota",
        "nothing, but up to 3,000 reads in two minutes: others of the project get 429 meanwhile",
        ("amapi.quotaLimit", "amapi.quotaRetryAfter"),
        quota,
        "quota",
    ),
)
UNASKED = {
    "amapi.purgeAfter": "takes weeks; the list of a device's operations shows how old the oldest is",
    "amapi.dropDelay": "would need a WIPE or RELINQUISH_OWNERSHIP",
    "amapi.deleteCustomerManaged": "would delete the enterprise if Google allowed it",
    "amapi.quotaWindow": "documented: a minute",
    "amapi.enterprises": "is the emulator's own",
    "pubsub.commandLast": "would need a WIPE or RELINQUISH_OWNERSHIP",
    "pubsub.beforeReply": "a race that may go either way at Google",
    "pubsub.requireGrant": "would need the enterprise's topic without its grant",
}
"""Settings that no question decides, and why."""
