"""Google service accounts: reading an operator's key file, and access tokens from it.

The exchange is RFC 7523 (a signed assertion for a token), as Google describes it for servers:
https://developers.google.com/identity/protocols/oauth2/service-account#httprest
google-auth signs. Its own `refresh` would block a thread that no deadline can end, hence the request is ours.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from google.auth import crypt, jwt

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.outbound import NoReply, NotSent, Outbound, Reply, is_address
from heliograph.outbound.keys import MAX_KEY_CHARACTERS, load_key

# For management. One token serves both: what the account may do is decided by its grants.
SCOPE = "https://www.googleapis.com/auth/androidmanagement https://www.googleapis.com/auth/pubsub"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
MAX_FILE_BYTES = 64 * 1024
# What is needed of a key file; the rest is for other clients.
TOKEN_ADDRESSES = ("https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token")
KEPT_MEMBERS = ("type", "project_id", "private_key_id", "private_key", "client_email", "token_uri")

_ASSERTION_LIFE_S = 3600  # the longest that Google takes
_EARLY_S = 60.0  # a token is not used up to its end, so that none dies on the way
_RENEW_AT = 0.8  # of its life: it is renewed while it is still good, so nobody has to wait
_AGAIN_S = 30.0  # after such a renewal failed
_UNSTATED_LIFE_S = 300.0
_OF_PROJECT = re.compile(r"[^@]+@([a-z0-9.-]+)\.iam\.gserviceaccount\.com|([^@]+)@appspot\.gserviceaccount\.com")

_NEW_FILE = (
    "download a new key (Google Cloud console, IAM & Admin, Service Accounts, Keys, Add key, JSON) "
    "and pass the file unchanged"
)
_OTHER_FILES = {
    "authorized_user": "is a person's own login, not a service account",
    "external_account": "is a workload identity, not a service account",
    "impersonated_service_account": "impersonates a service account and holds no key",
}


def read_service_account(raw: bytes) -> dict[str, Any]:
    """The content of a service account's key file; raises `InvalidInput` that says what to do about a bad one."""
    if not raw.strip():
        raise _unusable("is empty")
    if len(raw) > MAX_FILE_BYTES:
        raise _unusable(f"is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        account = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"))  # a byte order mark, added by editors
    except (msgspec.MsgspecError, ValueError, RecursionError):
        begun = raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        raise _unusable("is cut off or damaged" if begun else "is not JSON") from None
    if not isinstance(account, dict):
        raise _unusable("is not a JSON object")
    if "installed" in account or "web" in account:
        raise _unusable("is that of an OAuth client, not of a service account")
    _check_members(Fields(account))
    return account


def payer_of(account: Mapping[str, Any]) -> str:
    """Whose quota an account's requests count against: its project, by the account's address.

    The address is what the token endpoint proves when it takes the key; `project_id` is only what the file says. An
    address that names no project (Compute Engine's has its number) stands for itself. The project `example.com:name`
    of a domain is `name.example.com` there.
    """
    address = str(account.get("client_email") or "").lower()
    found = _OF_PROJECT.fullmatch(address)
    return address if found is None else found[1] or found[2]


def check_project(account: Mapping[str, Any]) -> None:
    """Raises InvalidInput where a key file names another project than the account's address does."""
    project, payer = account.get("project_id"), payer_of(account)
    if project is None or "@" in payer:
        return
    domain, _, name = str(project).rpartition(":")
    if (f"{name}.{domain}" if domain else name) != payer:
        raise InvalidInput.of("project_id", f"is not the project of client_email: {_NEW_FILE}")


def _unusable(what: str) -> InvalidInput:
    return InvalidInput(message=f"The credentials file {what}: {_NEW_FILE}")


def _check_members(fields: Fields) -> None:
    kind = fields.raw.get("type")
    if kind != "service_account":
        known = _OTHER_FILES.get(kind) if isinstance(kind, str) else None
        raise _unusable(known or 'has no "type": "service_account"')
    fields.text("client_email", required=True, pattern=r"[^@\s]+@[^@\s]+", meaning="must be the account's address")
    fields.text("private_key_id")
    address = fields.text("token_uri", required=True, max_length=2048)
    if address is not None and not is_address(address):
        fields.wrong("token_uri", "must be an http or https address")
    key = fields.text("private_key", required=True, max_length=MAX_KEY_CHARACTERS, empty=False)
    fault = None if key is None else _key_fault(key)
    if fault:
        fields.wrong("private_key", fault)
    if fields.errors:
        raise InvalidInput(fields.errors, f"The credentials file cannot be used ({_NEW_FILE})")


def _key_fault(pem: str) -> str | None:
    if "\\n" in pem:
        return "has its line breaks written as \\n twice; take it from the downloaded file"
    if "-----BEGIN" not in pem or "-----END" not in pem:
        return "is cut off: it must hold a PEM block from BEGIN to END"
    try:
        key = _key_of(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "is no readable private key"
    return None if isinstance(key, RSAPrivateKey) else "must be an RSA key"


@lru_cache(maxsize=64)
def _key_of(pem: str) -> PrivateKeyTypes:
    """The key of a PEM block. Kept, because reading one proves that its numbers fit, which takes 50 ms."""
    return load_key(pem.encode())


@dataclass(frozen=True, slots=True)
class NoToken:
    """The token endpoint gave no token; nothing was asked of the API itself. `refused`: it does not want to."""

    reason: str
    after_s: float | None = None
    refused: bool = False


class TokenSource:
    """Access tokens of one service account. However many callers wait, one request is under way.

    `address`: where they are asked for, if not at the `token_uri` of the key file. `clock`: in seconds.
    """

    def __init__(
        self,
        account: Mapping[str, Any],
        *,
        scope: str = SCOPE,
        address: str | None = None,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._signer = crypt.RSASigner(_key_of(account["private_key"]), account.get("private_key_id"))  # type: ignore[no-untyped-call]
        self._issuer, self._audience, self._scope = account["client_email"], account["token_uri"], scope
        self._timeout_s, self._clock = timeout_s, clock
        self._http = Outbound(address or self._audience)
        self._token: str | None = None
        self._good_until = self._renew_at = 0.0
        self._flight: asyncio.Task[str | NoToken] | None = None

    async def token(self, *, deadline_s: float, refused: str | None = None) -> str | NoToken:
        """A token that is good now and is not the `refused` one."""
        now, good = self._clock(), None
        if self._token not in (None, refused) and now < self._good_until:
            good = self._token
        if good is not None and now < self._renew_at:
            return good
        flight = self._flight
        if flight is None or flight.done():
            flight = self._flight = asyncio.create_task(self._fetch())
        if good is not None:
            return good
        # `wait`, not `wait_for`: a caller whose time is over must not end the request of the others.
        await asyncio.wait((flight,), timeout=max(0.0, deadline_s))
        if not flight.done() or flight.cancelled():
            return NoToken("the token endpoint did not answer in time")
        return flight.result()

    async def _fetch(self) -> str | NoToken:
        now = int(time.time())
        self._renew_at = self._clock() + _AGAIN_S  # unless this one comes to something
        claims = {
            "iss": self._issuer,
            "scope": self._scope,
            "aud": self._audience,
            "iat": now,
            "exp": now + _ASSERTION_LIFE_S,
        }
        assertion: bytes = jwt.encode(self._signer, claims)  # type: ignore[no-untyped-call]
        form = {"grant_type": GRANT, "assertion": assertion.decode()}
        answer = await self._http.exchange("POST", "", form=form, deadline_s=self._timeout_s)
        if isinstance(answer, NotSent | NoReply):
            return NoToken(f"the token endpoint cannot be reached ({answer.reason})")
        return self._take(answer)

    def _take(self, reply: Reply) -> str | NoToken:
        body = reply.json() or {}
        token, life_s = body.get("access_token"), body.get("expires_in")
        if reply.status != 200 or not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            error = body.get("error")
            # The code only (RFC 6749, 5.2): descriptions may repeat what was sent.
            code = f" {error}" if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,40}", error) else ""
            refused = reply.status in (400, 401, 403)
            return NoToken(f"the token endpoint gave no token ({reply.status}{code})", reply.after_s, refused)
        if isinstance(life_s, bool) or not isinstance(life_s, int | float) or life_s <= 0:
            life_s = _UNSTATED_LIFE_S
        now = self._clock()
        self._token, self._good_until = token, now + max(life_s / 2, life_s - _EARLY_S)
        self._renew_at = min(self._good_until, now + life_s * _RENEW_AT)
        return token

    async def close(self) -> None:
        """Let go of connections."""
        if self._flight is not None and not self._flight.done():
            self._flight.cancel()
            await asyncio.wait((self._flight,))
        await self._http.close()
