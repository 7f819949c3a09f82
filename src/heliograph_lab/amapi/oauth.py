"""The token endpoint: takes a service account's signed assertion as oauth2.googleapis.com does (RFC 7523)."""

import base64
import binascii
import secrets
from typing import Any
from urllib.parse import parse_qs

import msgspec

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/androidmanagement"
# One token endpoint serves all APIs, as Google's does.
_OTHER_SCOPES = (
    "https://www.googleapis.com/auth/pubsub",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/firebase.messaging",
)
# The beginning of each token; the project and the end of its life follow, so that a restart forgets none.
_TOKEN = "ya29.lab."  # noqa: S105
LIFE = 3599  # seconds
UNKNOWN_PROJECT = "unknown"
_LONGEST_PROJECT = 100
# google-auth writes Google's own address whatever token_uri says; gcloud-aio-auth writes token_uri.
_GOOGLE_AUDIENCES = {
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
}


def exchange(form: bytes, own_url: str, now: float) -> tuple[int, dict[str, Any]]:
    """The answer to a token request: status and body. `now`: Unix seconds of the lab's clock.

    The signature is not checked (nobody has registered a key here), nor the times (the lab's clock may be ahead).
    """
    try:
        fields = parse_qs(form.decode("ascii"), strict_parsing=True)
    except ValueError:
        return _refused("invalid_request", "The body must be form-encoded.")
    if fields.get("grant_type") != [_GRANT]:
        return _refused("unsupported_grant_type", "Invalid grant_type: only the JWT bearer grant is emulated.")
    claims = _claims(fields.get("assertion", [""])[0])
    if claims is None:
        return _refused("invalid_grant", "Invalid JWT: not three segments of JSON with an RS256 signature.")
    if claims.get("aud") not in _GOOGLE_AUDIENCES | {own_url}:
        return _refused("invalid_grant", "Invalid JWT: audience must be Google's token endpoint or this one.")
    if not claims.get("iss") or not _lasts_an_hour(claims):
        return _refused("invalid_grant", "Invalid JWT: iss, iat and exp are required, at most one hour apart.")
    if not {SCOPE, *_OTHER_SCOPES}.intersection(str(claims.get("scope", "")).split()):
        return _refused("invalid_scope", f"Invalid OAuth scope: {SCOPE} is needed.")
    project = base64.urlsafe_b64encode(project_of_account(str(claims["iss"])).encode()).decode().rstrip("=")
    token = f"{_TOKEN}{project}.{int(now) + LIFE:x}.{secrets.token_urlsafe(32)}"
    return 200, {"access_token": token, "expires_in": LIFE, "token_type": "Bearer"}


def project_of_account(email: str) -> str:
    """The Google Cloud project of a service account, which its address names."""
    host = email.partition("@")[2]
    return host.removesuffix(".iam.gserviceaccount.com").partition(".")[0][:_LONGEST_PROJECT] or UNKNOWN_PROJECT


def project_of_token(token: str) -> str:
    """The project whose service account has got this token here; one for all other tokens."""
    part, dot, _ = token.removeprefix(_TOKEN).partition(".")
    if not dot or not token.startswith(_TOKEN):
        return UNKNOWN_PROJECT
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode() or UNKNOWN_PROJECT
    except ValueError:  # no base64, or no UTF-8 in it
        return UNKNOWN_PROJECT


def lives(token: str, now: float) -> bool:
    """Whether this token was given out here, and its time (of the lab's clock) is not over."""
    parts = token.removeprefix(_TOKEN).split(".")
    if len(parts) != 3 or not token.startswith(_TOKEN):
        return False
    try:
        return now < int(parts[1], 16)
    except ValueError:
        return False


def _refused(error: str, description: str) -> tuple[int, dict[str, Any]]:
    return 400, {"error": error, "error_description": description}


def _claims(assertion: str) -> dict[str, Any] | None:
    segments = assertion.split(".")
    if len(segments) != 3 or not segments[2]:
        return None
    try:
        header, claims = (msgspec.json.decode(base64.urlsafe_b64decode(part + "==")) for part in segments[:2])
    except (binascii.Error, ValueError):
        return None
    if not isinstance(header, dict) or header.get("alg") != "RS256":
        return None
    return claims if isinstance(claims, dict) else None


def _lasts_an_hour(claims: dict[str, Any]) -> bool:
    issued, expires = claims.get("iat"), claims.get("exp")
    return isinstance(issued, int) and isinstance(expires, int) and 0 < expires - issued <= 3600
