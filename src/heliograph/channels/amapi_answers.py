"""What an answer of the Android Management API proves. Pure; sources: research/amapi.md 2 (error shapes as seen).

Only an answer counts as proof that a command was not accepted. 401 and 403 speak of our credentials, not of the
command, so they invite another try once the operator has put them right. Nothing is final but in the API's own error
shape: what stands between us and Google answers too, in HTML, a wrong base address with 404, a proxy with 407 or 451.
And a gateway says 503 also of a request that it has passed on, when the connection behind it broke.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from heliograph.domain.command_types import redact, without_secrets
from heliograph.outbound import Exchange, NoReply, NotSent, Reply
from heliograph.ports.channel import (
    CancelRefused,
    CancelTaken,
    Gone,
    IssueAnswer,
    NotTaken,
    Refused,
    Taken,
    Uncertain,
    Unreachable,
)

MAX_MESSAGE = 500

# Texts that mean 404 whatever the status says (seen with 500 and 400).
GONE_TEXTS = ("requested entity was not found", "device is no longer being managed")
CREDENTIALS = {401: "Google does not accept the enterprise's credentials", 403: "the credentials may not do this"}
# Nothing was done, and the same request may succeed later: too many requests.
QUOTA = 429
# The same: two requests have met (google.rpc.Code ABORTED), or two operations of one millisecond, which names them.
CONFLICT = 409
# So it is, where the API itself says it; else a gateway gave up, and it may be done.
LATER = frozenset({408, 425, 503})
# A gateway gave up, or the service failed half-way: it may be done.
HALF_WAY = frozenset({499, 500, 502, 504})
# The maps in an operation whose keys are data of users, by the discovery document: packages, and languages of texts.
_TEXTS = (
    "wipeParams.wipeReason",
    *(f"startLostModeParams.lost{name}" for name in ("Message", "Organization", "PhoneNumber", "StreetAddress")),
)
_MAPS = {".metadata.clearAppsDataStatus.results": dict} | {f".metadata.{t}.localizedMessages": str for t in _TEXTS}
# Members whose text is not free: a short secret may occur in them by chance.
_FIXED = frozenset({"name", "@type", "type", "createTime", "duration", "userName"})


def error_of(reply: Reply) -> tuple[str, str] | None:
    """Code and message of an error in Google's shape; None where the body has another."""
    error = (reply.json() or {}).get("error")
    if not isinstance(error, dict):
        return None
    code, message = error.get("status"), error.get("message")
    named = isinstance(code, str) and re.fullmatch(r"[A-Z][A-Z0-9_]{0,59}", code)
    return (
        str(code) if named else f"HTTP_{reply.status}",
        message.replace("\0", "") if isinstance(message, str) else "",
    )


def _is_gone(reply: Reply, error: tuple[str, str] | None) -> bool:
    if reply.status < 400 or error is None:
        return False
    return reply.status == 404 or any(text in error[1].lower() for text in GONE_TEXTS)


def _is_final(reply: Reply) -> bool:
    """Whether the API itself refuses this request, now and later."""
    error = error_of(reply)
    if error is None:
        return False
    if _is_gone(reply, error):
        return True
    if reply.status in CREDENTIALS or reply.status in (QUOTA, CONFLICT) or reply.status in LATER | HALF_WAY:
        return False
    return 400 <= reply.status < 500 or reply.status == 501


def _is_proof(reply: Reply) -> bool:
    """Whether nothing was done, by a refusal that is not final."""
    if reply.status in LATER:
        return error_of(reply) is not None
    return 400 <= reply.status < 500 and reply.status not in HALF_WAY


def issue_answer(reply: Exchange, secrets: Iterable[str]) -> IssueAnswer:
    """What is known about a command after an attempt to issue it."""
    if isinstance(reply, NotSent):
        return NotTaken(reply.reason, reply.after_s)
    if isinstance(reply, NoReply):
        return Uncertain(reply.reason)
    if 200 <= reply.status < 300:
        operation = usable_operation(reply.json(), secrets)
        return Taken(operation["name"], operation) if operation else Uncertain(f"{reply.status} without an operation")
    if _is_final(reply):
        error = error_of(reply)
        code, message = error or (f"HTTP_{reply.status}", "")
        # Cut after the secrets are out, lest half of one stays.
        return Refused(code, redact(message, secrets)[:MAX_MESSAGE], _is_gone(reply, error))
    return NotTaken(_reason(reply), reply.after_s) if _is_proof(reply) else Uncertain(_reason(reply))


def _reason(reply: Reply) -> str:
    if reply.status == 404:
        return "404, but not from the API: is the base address right?"
    why = CREDENTIALS.get(reply.status)
    if why is None and reply.status != QUOTA and 400 <= reply.status < 500 and error_of(reply) is None:
        why = "that is not the API's word; does a proxy stand between?"
    return f"Google answered {reply.status}" + (f": {why}" if why else "")


def read_answer(reply: Exchange) -> dict[str, Any] | Gone | Unreachable:
    """The JSON object that a read gave."""
    if isinstance(reply, NotSent):
        return Unreachable(reply.reason, reply.after_s)
    if isinstance(reply, NoReply):
        return Unreachable(reply.reason)
    if 200 <= reply.status < 300:
        body = reply.json()
        return Unreachable(f"{reply.status} without a JSON object") if body is None else body
    error = error_of(reply)
    if error is not None and _is_gone(reply, error):
        return Gone(error[1][:MAX_MESSAGE] or _reason(reply))
    return Unreachable(_reason(reply), reply.after_s, reply.status)


def cancel_answer(reply: Exchange) -> CancelTaken | CancelRefused | Unreachable:
    """What became of a request to cancel. Asking twice does no harm, so whatever is unclear may be asked again."""
    if isinstance(reply, Reply) and _is_final(reply):
        error = error_of(reply)
        return CancelRefused(reply.status, error[1][:MAX_MESSAGE] if error else "")
    answer = read_answer(reply)
    if isinstance(answer, dict):
        return CancelTaken()
    is_unsure = isinstance(reply, NoReply) or (isinstance(reply, Reply) and not _is_proof(reply))
    if isinstance(answer, Unreachable):
        return replace(answer, is_unsure=is_unsure)
    return Unreachable(answer.reason, is_unsure=is_unsure)


def usable_operation(raw: Any, secrets: Iterable[str] = ()) -> dict[str, Any] | None:
    """An operation without secrets, or None where this is none."""
    if not isinstance(raw, dict) or not isinstance(raw.get("metadata", {}), dict):
        return None
    name = raw.get("name")
    parts = name.split("/") if isinstance(name, str) else []
    if parts[::2] != ["enterprises", "devices", "operations"] or len(parts) != 6 or not all(parts):
        return None
    return cleaned(raw, secrets)


def cleaned(raw: dict[str, Any], secrets: Iterable[str] = ()) -> dict[str, Any] | None:
    """A resource of Google's without secrets and NUL; None where it is nested too deep to be one."""
    try:
        kept: dict[str, Any] = _clean(without_secrets(raw, _MAPS), tuple(secrets))
    except RecursionError:
        return None
    return kept


def _clean(value: Any, secrets: tuple[str, ...]) -> Any:
    """Without NUL, which no store takes, and without secrets that a free text repeats."""
    if isinstance(value, dict):
        return {_clean(name, ()): _clean(member, () if name in _FIXED else secrets) for name, member in value.items()}
    if isinstance(value, list):
        return [_clean(item, secrets) for item in value]
    return redact(value, secrets).replace("\0", "") if isinstance(value, str) else value
