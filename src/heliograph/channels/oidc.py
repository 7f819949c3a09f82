"""Whether a pushed notification comes from Google: its OIDC token (RS256), checked against Google's published keys.

Anybody with a Google account can get a token for any audience, so the account that it names counts as much as the
signature: https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions. Tokens may be an hour old, and `iat` is
not looked at: a clock of ours that is minutes off must not turn Google away, while `exp` still ends every token.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import jwt

from heliograph.outbound import Outbound, Reply
from heliograph.ports.channel import Unreachable

CERTS_URL = "https://www.googleapis.com/oauth2/v3/certs"
ISSUERS = ["https://accounts.google.com", "accounts.google.com"]
MAX_TOKEN = 8 * 1024

_FRESH_S = 3600.0
_PAUSE_S = 30.0  # between two fetches, however many unknown keys are named to us
_TIMEOUT_S = 5.0
_LEEWAY_S = 60


class TokenVerifier:
    """Checks tokens; keeps the keys, and fetches them anew when they are old or a token names one that is not there."""

    def __init__(self, certs_url: str = CERTS_URL, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = Outbound(certs_url)
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = -_FRESH_S
        self._fetching = asyncio.Lock()

    async def is_genuine(self, token: str, audience: str, email: str) -> bool | Unreachable:
        """Whether Google signed this for the account and one of the audiences (separated by blanks)."""
        key_id = _key_id(token)
        if key_id is None:
            return False
        if not self._has(key_id):  # else nobody waits for what another token has us fetch
            await self._refresh(key_id)
        key = self._keys.get(key_id)
        if key is None:
            return False if self._fetched_at >= self._tried_at else Unreachable("Google's keys cannot be had")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=audience.split(),
                issuer=ISSUERS,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "aud", "iss"], "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return False
        return claims.get("email") == email and claims.get("email_verified") is True

    def _has(self, key_id: str) -> bool:
        return self._clock() - self._fetched_at < _FRESH_S and key_id in self._keys

    async def _refresh(self, key_id: str) -> None:
        async with self._fetching:
            now = self._clock()
            if self._has(key_id) or now - self._tried_at < _PAUSE_S:
                return
            self._tried_at = now
            reply = await self._http.exchange("GET", "", deadline_s=_TIMEOUT_S)
            keys = _keys(reply.json()) if isinstance(reply, Reply) and reply.status == 200 else None
            if keys:
                self._keys, self._fetched_at = keys, now

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()


def _key_id(token: str) -> str | None:
    """The key that a token names; None for what is no RS256 token."""
    if len(token) > MAX_TOKEN:
        return None
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    key_id = header.get("kid")
    return key_id if header.get("alg") == "RS256" and isinstance(key_id, str) else None


def _keys(document: Any) -> dict[str, jwt.PyJWK] | None:
    """The RSA keys of a JWKS document, by their ids; None where it is none."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return None
    found: dict[str, jwt.PyJWK] = {}
    for raw in listed:
        if not isinstance(raw, dict) or raw.get("kty") != "RSA" or not isinstance(raw.get("kid"), str):
            continue
        try:
            found[raw["kid"]] = jwt.PyJWK(raw, algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    return found
